"""The answer to a job: the result that satisfies the constraints, the Pareto front, and why the others lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from farm.domain.constraint import QUANTITIES, Body, Constraint, burden

Objective = Literal["latency", "size", "accuracy", "memory"]
AS_GOOD = 0.03
"""Results within this share of the best by the objective are held equal: less than two runs of one host differ by.
Among them the more faithful one wins, then the smaller one."""

_BY_OBJECTIVE = {"latency": "p90", "size": "size", "accuracy": "accuracy", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A result in the race.

    Attributes:
        body: the concluded result, in the fields of report.schema.json.
        baseline: the float32 result of the same target and runtime.
        dropped: why it was given up before it was measured; None for a finalist.
    """

    body: Body
    baseline: Body | None = None
    dropped: str | None = None

    @property
    def ref(self) -> dict[str, str]:
        return {name: self.body[name] for name in ("model", "target", "target_runtime", "recipe")}


def choose(candidates: Sequence[Candidate], constraints: Sequence[Constraint], objective: Objective) -> dict[str, Any]:
    """Choose among the results of one model.

    Returns: the report's `answer`; every candidate but the winner is a loser with its reason. Equal candidates give
        equal answers: ties go to the one named first.
    """
    reasons = [_out(one, constraints, objective) for one in candidates]
    fit = [one for one, reason in zip(candidates, reasons, strict=True) if reason is None]
    winner = _best(fit, objective)
    losers = [
        {**one.ref, "reason": reason or _advantage(winner, one, objective)}
        for one, reason in zip(candidates, reasons, strict=True)
        if one is not winner
    ]
    return {
        "winner": winner.ref if winner else None,
        "pareto": [one.ref for one in pareto(candidates)],
        "losers": losers,
        "nearest_miss": None if winner else _nearest(candidates, reasons, constraints),
    }


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """List those that no other one beats in latency, fidelity and size at once; invalid times take no part."""
    points = [(one, _point(one)) for one in candidates if one.dropped is None and _is_sound(one)]
    known = [(one, point) for one, point in points if point is not None]
    return [
        one for one, point in known if not any(_dominates(other, point) for rival, other in known if rival is not one)
    ]


def _out(one: Candidate, constraints: Sequence[Constraint], objective: Objective) -> str | None:
    """Say why a candidate can't win, whatever the others are."""
    if not _is_sound(one):
        return f"failed: {one.body.get('message') or 'no artifact'}"
    if one.dropped is not None:
        return one.dropped
    broken = [reason for each in constraints if (reason := each.broken_by(one.body, one.baseline)) is not None]
    if broken:
        return "; ".join(broken)
    if _score(one, objective) is None:
        return f"its {objective} is not known: {_unknown(one, objective)}"
    return None


def _best(fit: Sequence[Candidate], objective: Objective) -> Candidate | None:
    if not fit:
        return None
    scores = [_score(one, objective) or 0.0 for one in fit]
    top = min(scores)
    near = [one for one, score in zip(fit, scores, strict=True) if score <= top + AS_GOOD * abs(top)]
    return min(near, key=lambda one: (-_fidelity(one), QUANTITIES["size"].read(one.body) or math.inf))


def _advantage(winner: Candidate | None, one: Candidate, objective: Objective) -> str:
    if winner is None:
        return "nothing satisfies the constraints"
    quantity = QUANTITIES[measured_by(objective, one.body)]
    ours, theirs = quantity.read(winner.body), quantity.read(one.body)
    if ours is None or theirs is None:
        return f"the winner's {objective} is known"
    if abs(ours - theirs) > AS_GOOD * abs(ours):
        return f"{quantity.name} {quantity.show(theirs)}; the winner has {quantity.show(ours)}"
    return (
        f"{quantity.name} {quantity.show(theirs)} is as good as the winner's {quantity.show(ours)}, "
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
    excesses = [each.excess(one.body, one.baseline) for each in judged]
    known = [excess for excess in excesses if math.isfinite(excess)]
    return len(excesses) - len(known), math.fsum(known)


def _is_sound(one: Candidate) -> bool:
    return one.body.get("verdict") != "failed"


def measured_by(objective: Objective, body: Body) -> str:
    """Name the quantity that the objective looks at; without a score, accuracy means the SQNR."""
    name = _BY_OBJECTIVE[objective]
    return "sqnr" if name == "accuracy" and QUANTITIES[name].read(body) is None else name


def _score(one: Candidate, objective: Objective) -> float | None:
    """Return what is to be made small; None when it is not known, or not validly measured."""
    quantity = QUANTITIES[measured_by(objective, one.body)]
    if quantity.needs_measurement and (one.body.get("conditions") or {}).get("valid") is not True:
        return None
    return burden(quantity, one.body)


def _unknown(one: Candidate, objective: Objective) -> str:
    reasons = (one.body.get("conditions") or {}).get("reasons", ())
    return f"no valid measurement ({', '.join(reasons)})" if reasons else f"the report has no {objective}"


def _fidelity(one: Candidate) -> float:
    """Return accuracy where there is a score, else SQNR in dB; candidates of one model have the same kind."""
    lost = burden(QUANTITIES[measured_by("accuracy", one.body)], one.body)
    return -math.inf if lost is None else -lost


def _point(one: Candidate) -> tuple[float, float, float] | None:
    """Return (latency, −fidelity, size), all to be made small."""
    values = _score(one, "latency"), _score(one, "accuracy"), _score(one, "size")
    latency, lost, size = values
    return None if latency is None or lost is None or size is None else (latency, lost, size)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other
