"""The answer to a job: the result that satisfies the constraints, the Pareto front, and why the others lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from farm.domain.constraint import QUANTITIES, Body, Constraint, Quantity, burden, where_read
from farm.domain.pace import PACED, at_pace, busiest, factors, host_of, noise_of

Objective = Literal["latency", "size", "accuracy", "memory"]
AS_GOOD = 0.03
"""Results within this share of the best by the objective are held equal: less than two runs of one host differ by.
Where a host's own noise floor is larger, that holds for times. Among equal ones the more faithful one wins, then the
smaller one."""

_BY_OBJECTIVE = {"latency": "p90", "size": "size", "accuracy": "accuracy", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A result in the race.

    Attributes:
        body: the concluded result, in the fields of report.schema.json.
        baseline: the float32 result of the same target and runtime.
        dropped: why it was given up before it was measured; None for a finalist.
        factor: by what its times are divided beside those of others; None where they can't be compared.
        baseline_factor: the same of the baseline.
        base: the host at whose pace they are compared.
    """

    body: Body
    baseline: Body | None = None
    dropped: str | None = None
    factor: float | None = 1.0
    baseline_factor: float | None = 1.0
    base: str | None = None

    @property
    def paced(self) -> tuple[Body, Body | None]:
        """The result and its baseline with their times at one host's pace: what bounds are held against."""
        return at_pace(self.body, self.factor), self.baseline and at_pace(self.baseline, self.baseline_factor)

    @property
    def ref(self) -> dict[str, str]:
        return {name: self.body[name] for name in ("model", "target", "target_runtime", "recipe")}


def choose(candidates: Sequence[Candidate], constraints: Sequence[Constraint], objective: Objective) -> dict[str, Any]:
    """Choose among the results of one model.

    Returns: the report's `answer`; every candidate but the winner is a loser with its reason. Equal candidates give
        equal answers: ties go to the one named first.
    """
    candidates = on_one_scale(candidates)
    reasons = [_out(one, constraints, objective) for one in candidates]
    fit = [one for one, reason in zip(candidates, reasons, strict=True) if reason is None]
    winner = _best(fit, objective)
    losers = [
        {**one.ref, "reason": reason or _advantage(winner, one, objective)}
        for one, reason in zip(candidates, reasons, strict=True)
        if one is not winner
    ]
    return {
        "winner": {**winner.ref, **_only_at_pace(winner, constraints)} if winner else None,
        "pareto": _front(candidates),
        "losers": losers,
        "nearest_miss": None if winner else _nearest(candidates, reasons, constraints),
    }


def on_one_scale(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Have the times of a target's hosts compared by their reference models'."""
    bodies = [one.body for one in candidates]
    found = factors(bodies)
    by_body = {id(body): factor for body, factor in zip(bodies, found, strict=True)}
    return [
        replace(
            one,
            factor=factor,
            baseline_factor=by_body.get(id(one.baseline), 1.0),
            base=busiest(bodies, one.body.get("target")),
        )
        for one, factor in zip(candidates, found, strict=True)
    ]


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """List those that no other one beats in latency, fidelity and size at once; invalid times take no part."""
    points = [(one, _point(one)) for one in candidates if one.dropped is None and _is_sound(one)]
    known = [(one, point) for one, point in points if point is not None]
    return [
        one for one, point in known if not any(_dominates(other, point) for rival, other in known if rival is not one)
    ]


def doubtful(candidates: Sequence[Candidate]) -> list[Candidate]:
    """List those whose measurement does not count, and that would stand on the front if it did.

    A time of an emulated host says nothing, so such a result is never one of them.
    """
    measured = [(one, _point(one)) for one in candidates if one.dropped is None and _is_sound(one)]
    known = [point for _, point in measured if point is not None]
    unsure = [
        (one, point)
        for one, valid in measured
        if valid is None and not _is_emulated(one) and (point := _point(one, counts=False)) is not None
    ]
    rivals = [*known, *(point for _, point in unsure)]
    return [one for one, point in unsure if not any(_dominates(rival, point) for rival in rivals)]


def _front(candidates: Sequence[Candidate]) -> list[dict[str, str]]:
    """Name the Pareto front in the order of the candidates; of a doubtful member it is said why it is one."""
    sure, unsure = pareto(candidates), doubtful(candidates)
    return [
        {**one.ref, **({"reason": _doubt(one)} if any(one is other for other in unsure) else {})}
        for one in candidates
        if any(one is other for other in (*sure, *unsure))
    ]


def _doubt(one: Candidate) -> str:
    quantity = QUANTITIES[_BY_OBJECTIVE["latency"]]
    told, value = ", ".join((one.body.get("conditions") or {}).get("reasons", ())), quantity.read(one.body)
    shown = f" of {quantity.show(value)}" if value is not None else ""
    return f"its {quantity.name}{shown} does not count ({told or 'not valid'}); if it did, nothing would beat this"


def _is_emulated(one: Candidate) -> bool:
    conditions = one.body.get("conditions") or {}
    return conditions.get("emulated") is True or "emulated" in conditions.get("reasons", ())


def _out(one: Candidate, constraints: Sequence[Constraint], objective: Objective) -> str | None:
    """Say why a candidate can't win, whatever the others are."""
    if not _is_sound(one):
        return f"failed: {one.body.get('message') or 'no artifact'}"
    if one.dropped is not None:
        return one.dropped
    broken = [
        f"{reason}{_measured_as(one, each.quantity)}"
        for each in constraints
        if (reason := each.broken_by(*one.paced)) is not None
    ]
    if broken:
        return "; ".join(broken)
    if _score(one, objective) is None:
        return f"its {objective} is not known: {_unknown(one, objective)}"
    return None


def _only_at_pace(winner: Candidate, constraints: Sequence[Constraint]) -> dict[str, str]:
    """Say which bounds the winner keeps at the pace of the others' host and not by the times it was measured at."""
    told = [
        f"{each.quantity.name} {each.quantity.show(value)} keeps {each.text} at the pace of host {winner.base}"
        f"{_measured_as(winner, each.quantity)}"
        for each in constraints
        if each.broken_by(winner.body, winner.baseline) and (value := each.quantity.read(winner.paced[0])) is not None
    ]
    return {"reason": "; ".join(told)} if told else {}


def _measured_as(one: Candidate, quantity: Quantity) -> str:
    """Say what was measured where a time is told at another host's pace; empty where it is told as it was."""
    value = quantity.read(one.body)
    if quantity.name not in PACED or value is None or one.factor in (None, 1.0):
        return ""
    there = f"host {host_of(one.body)}, which takes {one.factor:.2f}x the time of {one.base} for the reference model"
    return f" (measured as {quantity.show(value)} on {there})"


def _best(fit: Sequence[Candidate], objective: Objective) -> Candidate | None:
    if not fit:
        return None
    scores = [_score(one, objective) or 0.0 for one in fit]
    top = min(scores)
    best = fit[scores.index(top)]
    near = [
        one for one, score in zip(fit, scores, strict=True) if score <= top + _slack(best, one, objective) * abs(top)
    ]
    return min(near, key=lambda one: (-_fidelity(one), QUANTITIES["size"].read(one.body) or math.inf))


def _advantage(winner: Candidate | None, one: Candidate, objective: Objective) -> str:
    if winner is None:
        return "nothing satisfies the constraints"
    quantity = QUANTITIES[measured_by(objective, one.body)]
    ours, theirs = quantity.read(winner.body), quantity.read(one.body)
    best, score = _score(winner, objective), _score(one, objective)
    if ours is None or theirs is None or best is None or score is None:
        return f"the winner's {objective} is known"
    apart = _apart(winner, one, quantity) or where_read(quantity, one.body)
    if abs(best - score) > _slack(winner, one, objective) * abs(best):
        return f"{quantity.name} {quantity.show(theirs)}{apart}; the winner has {quantity.show(ours)}"
    return (
        f"{quantity.name} {quantity.show(theirs)}{apart} is as good as the winner's {quantity.show(ours)}, "
        f"and the winner is {'more faithful' if _fidelity(winner) > _fidelity(one) else 'as faithful and not larger'}"
    )


def _nearest(
    candidates: Sequence[Candidate], reasons: Sequence[str | None], constraints: Sequence[Constraint]
) -> dict[str, str] | None:
    """Name the sound candidate that misses its constraints by the smallest factor, for all that is known of it."""
    misses = [
        (_miss(one, constraints), place, {**one.ref, "reason": reason or ""})
        for place, (one, reason) in enumerate(zip(candidates, reasons, strict=True))
        if _is_sound(one)
    ]
    return min(misses, key=lambda miss: miss[:2])[2] if misses else None


def _miss(one: Candidate, constraints: Sequence[Constraint]) -> tuple[int, float]:
    """Return how many constraints can't be judged, and by which factor, as a logarithm, the others are missed.

    What was dropped was never measured: constraints on its times and memory count neither way.
    """
    judged = [each for each in constraints if one.dropped is None or not each.quantity.needs_measurement]
    excesses = [each.excess(*one.paced) for each in judged]
    known = [excess for excess in excesses if math.isfinite(excess)]
    return len(excesses) - len(known), math.fsum(known)


def _is_sound(one: Candidate) -> bool:
    return one.body.get("verdict") != "failed"


def measured_by(objective: Objective, body: Body) -> str:
    """Name the quantity that the objective looks at; without a score, accuracy means the SQNR."""
    name = _BY_OBJECTIVE[objective]
    return "sqnr" if name == "accuracy" and QUANTITIES[name].read(body) is None else name


def _score(one: Candidate, objective: Objective, *, counts: bool = True) -> float | None:
    """Return what is to be made small; None when it is not known, or has to count and was not validly measured."""
    quantity = QUANTITIES[measured_by(objective, one.body)]
    if counts and quantity.needs_measurement and (one.body.get("conditions") or {}).get("valid") is not True:
        return None
    value, factor = burden(quantity, one.body), _factor(one, quantity)
    return None if value is None or factor is None else value / factor


def _factor(one: Candidate, quantity: Quantity) -> float | None:
    return one.factor if quantity.is_time else 1.0


def _slack(best: Candidate, one: Candidate, objective: Objective) -> float:
    """Return the share by which two results may differ in what the objective looks at and count as equal."""
    is_time = QUANTITIES[_BY_OBJECTIVE[objective]].is_time
    return max(AS_GOOD, noise_of(best.body, one.body)) if is_time else AS_GOOD


def _apart(winner: Candidate, one: Candidate, quantity: Quantity) -> str:
    """Say how the times of two hosts of one target were compared; empty where there is nothing to say."""
    hosts = host_of(winner.body), host_of(one.body)
    if not quantity.is_time or hosts[0] == hosts[1] or winner.ref["target"] != one.ref["target"]:
        return ""
    slower = (one.factor or 1.0) / (winner.factor or 1.0)
    return f" (on host {hosts[1]}, which takes {slower:.2f}x the time of {hosts[0]} for the reference model)"


def _unknown(one: Candidate, objective: Objective) -> str:
    reasons = (one.body.get("conditions") or {}).get("reasons", ())
    if not reasons and one.factor is None:
        return f"no reference model ran on its host {host_of(one.body)} and on the others' alike"
    return f"no valid measurement ({', '.join(reasons)})" if reasons else f"the report has no {objective}"


def _fidelity(one: Candidate) -> float:
    """Return accuracy where there is a score, else SQNR in dB; candidates of one model have the same kind."""
    lost = burden(QUANTITIES[measured_by("accuracy", one.body)], one.body)
    return -math.inf if lost is None else -lost


def _point(one: Candidate, *, counts: bool = True) -> tuple[float, float, float] | None:
    """Return (latency, −fidelity, size), all to be made small; None where one is not known or does not count."""
    values = _score(one, "latency", counts=counts), _score(one, "accuracy"), _score(one, "size")
    latency, lost, size = values
    return None if latency is None or lost is None or size is None else (latency, lost, size)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other
