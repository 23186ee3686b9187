"""The search for an answer: which candidates are worth a measurement, and why the others are given up.

A candidate is a result that the farm tries of its own accord. When it was compared and scored, it is given up where it
breaks a constraint that no measurement mends. The others get a short measurement. Who is as good as the best by the
objective is measured in full, and so is who stands on the field's front of latency, fidelity and size, whatever the
objective: that is what else a user may want. The rest is measured only when none of these satisfies the constraints
though its measurements count. The float32 of a runtime is measured in full where anything is held against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from farm.domain.answer import measured_by
from farm.domain.constraint import QUANTITIES, burden
from farm.domain.goal import Goal
from farm.domain.mixing import Round, best_of, family_of, next_count, ranking_of
from farm.domain.pace import factors
from farm.domain.plan import Branch, Plan, PlannedResult
from farm.domain.progress import Progress, States, StepPhase, artifact_of, branch_failure, gives_way
from farm.domain.recipe import BASELINE, RECIPES

PROBED_FROM = 3
"""Candidates of one model on one target from which on short measurements save time."""
NOISE = 0.1
"""Share by which two short measurements of equal files may differ: who is so near to the best is measured in full."""
ALIKE, ALIKE_DB = 0.1, 0.5
"""Share of a size, and decibels of an SQNR, by which files may differ and stand at one place of the front."""
MIXED, STATIC = "int8-mixed", "int8-static"


class Fate(StrEnum):
    """Where a candidate stands: being tried, worth its measurement, or given up."""

    OPEN = "open"
    CHOSEN = "chosen"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the search says of a candidate.

    Attributes:
        held: the steps that must not run now.
        reason: why it is given up.
        grow: the next round of int8-mixed is due, with so many operators in float.
        turn: another branch is the better one: it takes over.
    """

    fate: Fate
    held: tuple[str, ...] = ()
    reason: str | None = None
    grow: int | None = None
    turn: int | None = None


CHOSEN = Standing(Fate.CHOSEN)


def standing(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> Standing:
    """Say where a result stands in its search; one that is no candidate is measured as it is."""
    result = plan.results[index]
    if (mixing := _mixing(plan, progress, index, states)) is not None:
        return mixing
    if not is_candidate(plan, result):
        return CHOSEN
    branch = result.branches[progress[index].branch]
    alone = _alone(plan, result, branch, states)
    if alone is not None:
        return alone
    if _is_begun(states, branch.measure):
        return CHOSEN
    rivals = _rivals(plan, result)
    awaited = [_is_settled(plan, progress, rival, states) for rival in rivals]
    awaited += [progress[one].concluded or _is_timed(plan, progress, one, states) for one in _floats(plan, result)]
    if not all(awaited):
        return Standing(Fate.OPEN, (branch.measure,))
    field = [rival for rival in rivals if _is_probed(plan, progress, rival, states)]
    if index not in field:
        return CHOSEN
    better = _finalists(plan, progress, field, states)
    if index in better:
        return CHOSEN
    given_up = Standing(Fate.DROPPED, _measurements(branch), _behind(plan, progress, index, better, states))
    if any(_satisfies(plan, progress, rival, states) for rival in better):
        return given_up
    if not all(progress[rival].concluded for rival in better):
        return Standing(Fate.OPEN, (branch.measure,))
    return CHOSEN if any(_is_valid(plan, progress, rival, states) for rival in better) else given_up


def is_candidate(plan: Plan, result: PlannedResult) -> bool:
    """Tell whether the search may give a result up: nobody named it, and nothing is held against it."""
    return result.searched and result.model in plan.goals and bool(result.branches) and not _is_leant_on(plan, result)


def _is_leant_on(plan: Plan, result: PlannedResult) -> bool:
    """Tell whether others are held against a result, so that it has to be measured in full."""
    if result.recipe != BASELINE:
        return False
    return any(plan.results[one.baseline] is result for one in plan.results if one.baseline is not None)


def without_needless_probes(results: Sequence[PlannedResult], goals: Mapping[str, Goal]) -> tuple[PlannedResult, ...]:
    """Take short measurements out where so few candidates of a model are on a target that they save nothing.

    int8-mixed has none: nobody is to wait for its rounds. Nor has anyone whose memory is to be small: a short
    measurement does not take it.
    """
    plan = Plan(results=tuple(results), goals=goals)
    kept = []
    for result in results:
        goal = goals.get(result.model)
        by_memory = goal is not None and goal.prefers == "memory"
        needless = result.recipe == MIXED or by_memory or not is_candidate(plan, result)
        if needless or len(_rivals(plan, result)) < PROBED_FROM:
            branches = (
                replace(branch, probe=None, steps=tuple(key for key in branch.steps if key != branch.probe))
                for branch in result.branches
            )
            result = replace(result, branches=tuple(branches))
        kept.append(result)
    return tuple(kept)


def known_of(result: PlannedResult, branch: Branch, states: States) -> dict[str, Any]:
    """Tell what is known of a branch's file, in the fields of report.schema.json."""
    told: dict[str, Any] = {
        "target": result.target,
        "target_runtime": result.target_runtime,
        "recipe": result.recipe,
        **_facts(states, branch.compare, "numerics"),
        **(_facts(states, branch.evaluate, "accuracy") if branch.evaluate else {}),
        **_facts(states, branch.measure, "execution_summary", "conditions"),
    }
    if branch.artifact.step is None or _has_succeeded(states, branch.artifact.step):
        told["artifact"] = {"size_bytes": artifact_of(result, branch, states).size_bytes}
    return told


def _mixing(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> Standing | None:
    """Say what int8-mixed still has to try; None once its rounds are over, and where there is nothing to find.

    A first round that is lost has no others: the next route takes over.
    """
    result, at = plan.results[index], progress[index].branch
    goal = plan.goals.get(result.model)
    if result.recipe != MIXED or not result.branches or goal is None or not goal.asks_fidelity:
        return None
    family = family_of(result, at)
    branch = result.branches[at]
    ranked = ranking_of(plan, result.branches[family[0]], states)
    rounds = [one for place in family if (one := _round(plan, progress, index, place, states)) is not None]
    if len(rounds) < len(family):
        return Standing(Fate.OPEN, _measurements(branch))
    if ranked is None or rounds[0].sqnr_db is None:
        return None
    count = next_count(rounds, len(ranked[0]) // 2)
    if count is not None:
        return Standing(Fate.OPEN, _measurements(branch), grow=count)
    best = best_of(rounds).branch
    return Standing(Fate.OPEN, _measurements(branch), turn=best) if best != at else None


def _round(plan: Plan, progress: Sequence[Progress], index: int, at: int, states: States) -> Round | None:
    """Tell what a branch of int8-mixed reached; None while it is not known."""
    result = plan.results[index]
    branch = result.branches[at]
    ranked = ranking_of(plan, branch, states)
    count = branch.in_float if branch.in_float is not None else ranked[1] if ranked else 0
    if branch_failure(plan, progress, index, at, states) is not None:
        return Round(at, count, keeps=False, sqnr_db=None)
    if not _is_compared(branch, states):
        return None
    body = known_of(result, branch, states)
    keeps = not plan.goals[result.model].misses_fidelity(body)
    asks_accuracy = any(one.quantity.name == "accuracy" for one in plan.goals[result.model].parsed)
    lost = burden(QUANTITIES["accuracy"], body) if asks_accuracy else None
    return Round(at, count, keeps, QUANTITIES["sqnr"].read(body), None if lost is None else -lost)


def _is_compared(branch: Branch, states: States) -> bool:
    return all(_has_succeeded(states, key) for key in (branch.compare, branch.evaluate) if key is not None)


def _alone(plan: Plan, result: PlannedResult, branch: Branch, states: States) -> Standing | None:
    """Say where a candidate stands whatever its rivals do; None when it was shortly measured."""
    if not _is_compared(branch, states):
        return Standing(Fate.OPEN, _measurements(branch))
    broken = plan.goals[result.model].breaks_early(known_of(result, branch, states))
    if broken is not None:
        return Standing(Fate.DROPPED, _measurements(branch), broken)
    if _is_static(plan, result, branch, states):
        return Standing(Fate.DROPPED, _measurements(branch), f"no operator has to stay in float: it is {STATIC}")
    if branch.probe is None:
        return CHOSEN
    return None if _has_succeeded(states, branch.probe) else Standing(Fate.OPEN, (branch.measure,))


def _is_static(plan: Plan, result: PlannedResult, branch: Branch, states: States) -> bool:
    """Tell whether int8-mixed leaves nothing in float, and int8-static is there to be measured instead."""
    ranked = ranking_of(plan, branch, states) if result.recipe == MIXED and branch.in_float is None else None
    place = (result.model, result.target, result.target_runtime, STATIC)
    twins = (one for one in plan.results if (one.model, one.target, one.target_runtime, one.recipe) == place)
    return ranked is not None and ranked[1] == 0 and any(one.branches for one in twins)


def _rivals(plan: Plan, result: PlannedResult) -> list[int]:
    """List whom a result runs against: the model's candidates on its target, in the plan's order."""
    return [
        index
        for index, other in enumerate(plan.results)
        if (other.model, other.target) == (result.model, result.target)
        and is_candidate(plan, other)
        and other.recipe != MIXED
        and other.branches[0].probe is not None
    ]


def _floats(plan: Plan, result: PlannedResult) -> list[int]:
    """List the float32 results that are measured in full whatever happens: the front is theirs, too."""
    return [
        index
        for index, other in enumerate(plan.results)
        if (other.model, other.target) == (result.model, result.target) and other.branches and _is_leant_on(plan, other)
    ]


def _is_timed(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> bool:
    return _has_succeeded(states, plan.results[index].branches[progress[index].branch].measure)


def _is_probed(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> bool:
    result, at = plan.results[index], progress[index].branch
    if branch_failure(plan, progress, index, at, states) is not None:
        return False
    return _alone(plan, result, result.branches[at], states) is None


def _is_settled(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> bool:
    """Tell whether nothing more is to be awaited of a rival before the finalists are named."""
    result, at = plan.results[index], progress[index].branch
    if progress[index].concluded:
        return True
    if branch_failure(plan, progress, index, at, states) is not None:
        return not gives_way(plan, progress, index, at, states)
    alone = _alone(plan, result, result.branches[at], states)
    return alone is None or alone.fate is not Fate.OPEN


def _finalists(plan: Plan, progress: Sequence[Progress], field: Sequence[int], states: States) -> list[int]:
    """Keep who is as good as the best by the objective, and who is on the front; the best first, equal ones in order.

    Where nobody's figure is known, nothing tells them apart: half of them is kept.
    """
    floats = [one for one in _floats(plan, plan.results[field[0]]) if _is_timed(plan, progress, one, states)]
    bodies = {index: _probed_of(plan, progress, index, states) for index in (*field, *floats)}
    scales = dict(zip(bodies, factors(list(bodies.values())), strict=True))
    scores = {one: _score(plan, plan.results[one], bodies[one], scales[one]) for one in field}
    ranked = sorted(field, key=lambda index: (scores[index], index))
    best = scores[ranked[0]]
    if math.isinf(best):
        return ranked[: (len(ranked) + 1) // 2]
    places = {index: _place(body, scales[index]) for index, body in bodies.items()}
    in_db = all(measured_by("accuracy", body) == "sqnr" for body in bodies.values())
    front = _front(places, alike=ALIKE_DB if in_db else 0.0)
    return [one for one in ranked if scores[one] <= best + NOISE * abs(best) or one in front]


def _place(body: Mapping[str, Any], factor: float | None) -> tuple[float, float, float]:
    """Give what the front looks at, all to be made small: the short measurement's median, lost fidelity, size.

    From the SQNR on that is asked of float32 an output is the source's for all purposes: more is no advantage.
    """
    fidelity = measured_by("accuracy", body)
    latency, lost, size = (burden(QUANTITIES[name], body) for name in ("p50", fidelity, "size"))
    paced = math.inf if latency is None or factor is None else latency / factor
    if lost is not None and fidelity == "sqnr":
        lost = max(lost, -RECIPES[BASELINE].degraded_below_db)
    return paced, math.inf if lost is None else lost, math.inf if size is None else size


def _front(places: Mapping[int, tuple[float, float, float]], *, alike: float) -> set[int]:
    """Find who is not behind in all three: of files that are alike in fidelity and size, only the fastest stays.

    Args:
        places: of each candidate, as `_place` gives them.
        alike: by how much two fidelities may differ and be held equal.
    """
    kept: list[int] = []
    for one in sorted(places, key=lambda index: (*places[index], index)):
        latency, lost, size = places[one]
        behind = any(
            places[rival][0] <= latency and places[rival][1] <= lost + alike and places[rival][2] <= size * (1 + ALIKE)
            for rival in kept
        )
        if math.isfinite(latency) and not behind:
            kept.append(one)
    return set(kept)


def _score(plan: Plan, result: PlannedResult, body: Mapping[str, Any], factor: float | None) -> float:
    """Return what the objective wants small: of the file, else of its short measurement.

    What is not known, or was timed on a host that shares no reference model with the others', is behind all.
    """
    quantity = QUANTITIES[_shown_by(plan, result, body)]
    value, scale = burden(quantity, body), factor if quantity.is_time else 1.0
    return math.inf if value is None or scale is None else value / scale


def _shown_by(plan: Plan, result: PlannedResult, body: Mapping[str, Any]) -> str:
    """Name the quantity of the objective; the median of a short measurement stands for its 90th percentile."""
    name = measured_by(plan.goals[result.model].prefers, body)
    return "p50" if name == "p90" else name


def _probed_of(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> dict[str, Any]:
    result = plan.results[index]
    branch = result.branches[progress[index].branch]
    return known_of(result, branch, states) | _facts(states, branch.probe or "", "execution_summary", "conditions")


def _satisfies(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> bool:
    """Tell whether a finalist was measured and keeps every constraint."""
    result, at = plan.results[index], progress[index].branch
    if not progress[index].concluded or branch_failure(plan, progress, index, at, states) is not None:
        return False
    body = known_of(result, result.branches[at], states)
    if not _is_valid(plan, progress, index, states):
        return False
    baseline = None
    if result.baseline is not None and (other := plan.results[result.baseline]).branches:
        baseline = known_of(other, other.branches[progress[result.baseline].branch], states)
    return all(one.broken_by(body, baseline) is None for one in plan.goals[result.model].parsed)


def _is_valid(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> bool:
    """Tell whether the full measurement counts: on a host where none does, more of them would not help."""
    measured = states.get(plan.results[index].branches[progress[index].branch].measure)
    return measured is not None and (measured.facts.get("conditions") or {}).get("valid") is True


def _behind(plan: Plan, progress: Sequence[Progress], index: int, better: Sequence[int], states: States) -> str:
    """Say by how much a candidate is behind the best one; an emulated host's times are not told."""
    ours, best = (_probed_of(plan, progress, one, states) for one in (index, better[0]))
    quantity = QUANTITIES[_shown_by(plan, plan.results[index], ours)]
    shown = [quantity.show(value) if (value := quantity.read(body)) is not None else "unknown" for body in (ours, best)]
    rival = f"{best['target_runtime']} {best['recipe']}"
    conditions = [body.get("conditions") or {} for body in (ours, best)]
    if quantity.needs_measurement and any(one.get("emulated") is not False for one in conditions):
        return f"not measured in full: no time of an emulated host counts; {rival} came first in a short measurement"
    breaches = dict.fromkeys(reason for one in conditions for reason in one.get("reasons", ()) if reason != "unstable")
    doubt = f" that does not count ({', '.join(breaches)})" if breaches else ""
    how = f"in a short measurement{doubt}, " if quantity.needs_measurement else ""
    return f"not measured in full: {how}{quantity.name} {shown[0]}; {rival} had {shown[1]}"


def _measurements(branch: Branch) -> tuple[str, ...]:
    return (*((branch.probe,) if branch.probe else ()), branch.measure)


def _facts(states: States, key: str, *names: str) -> dict[str, Any]:
    return {name: states[key].facts[name] for name in names} if _has_succeeded(states, key) else {}


def _is_begun(states: States, key: str) -> bool:
    return key in states and states[key].phase not in (StepPhase.WAITING, StepPhase.SKIPPED)


def _has_succeeded(states: States, key: str) -> bool:
    return key in states and states[key].phase is StepPhase.SUCCEEDED
