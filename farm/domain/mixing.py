"""int8-mixed: how many operators stay in float, found by bisection over their measured ranking.

The first round is the quantizer's own choice, by SQNR. While the goal asks for a fidelity that a round misses, the next
one leaves more of the dearest operators in float; once one keeps it, fewer. Each round is a branch that joins the plan
when the one before it was compared. Fidelity need not grow with the number, so the best of all rounds counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from farm.domain.plan import Branch, Plan, PlannedResult, PlannedStep
from farm.domain.progress import States, StepPhase
from farm.domain.rekeying import made_anew, rekeyed, renamed

ROUNDS = 4
"""Files of one result that are made and compared at most, the first one included."""
KEEP_FLOAT, RANKING = "keep_float", "sensitivity"
"""The quantizer's option and fact: operators that stay in float, and all of them ranked, the dearest first."""


@dataclass(frozen=True, slots=True)
class Round:
    """One file of a mixed result: the branch that made it, how many operators it keeps in float, what it reached.

    `sqnr_db` is None, and `keeps` False, where its branch was lost. `score` is the accuracy, turned so that more is
    better, where the job asks for accuracy.
    """

    branch: int
    count: int
    keeps: bool
    sqnr_db: float | None
    score: float | None = None

    @property
    def fidelity(self) -> float:
        """Return what rounds that miss the fidelity asked for are ranked by: their score, else their SQNR (dB)."""
        told = self.sqnr_db if self.score is None else self.score
        return -math.inf if told is None else told


def next_count(rounds: Sequence[Round], most: int) -> int | None:
    """Say how many operators the next round leaves in float; None when the search is over.

    Args:
        rounds: those that ended, at least the first one.
        most: more than so many are not left in float.
    """
    tried = {one.count for one in rounds}
    kept = [one.count for one in rounds if one.keeps]
    high = min(kept, default=most + 1)
    low = max((one.count for one in rounds if not one.keeps and one.count < high), default=0)
    count = (low + high) // 2
    return None if len(rounds) >= ROUNDS or count in tried or not 0 < count <= most else count


def best_of(rounds: Sequence[Round]) -> Round:
    """Choose the file with the fewest operators in float that keeps the fidelity, else the most faithful one."""
    kept = [one for one in rounds if one.keeps]
    if kept:
        return min(kept, key=lambda one: one.count)
    return max(rounds, key=lambda one: (one.sqnr_db is not None, one.fidelity, -one.branch))


def family_of(result: PlannedResult, at: int) -> list[int]:
    """List the branches that are rounds of one search: the planned one, and those that joined behind it."""
    first = at
    while result.branches[first].in_float is not None:
        first -= 1
    last = first
    while last + 1 < len(result.branches) and result.branches[last + 1].in_float is not None:
        last += 1
    return list(range(first, last + 1))


def ranking_of(plan: Plan, branch: Branch, states: States) -> tuple[list[str], int] | None:
    """Return the ranked operators of a branch's file and how many of them it keeps in float; None without a ranking."""
    found = _quantizer(plan, branch)
    state = states.get(found.key) if found else None
    if state is None or state.phase is not StepPhase.SUCCEEDED or RANKING not in state.facts:
        return None
    names = [str(one["operator"]) for one in state.facts[RANKING]]
    return names, len(state.facts.get(KEEP_FLOAT, ()))


def grown(plan: Plan, index: int, at: int, count: int, states: States) -> tuple[Plan, int]:
    """Add a round that keeps the `count` dearest operators in float; return the plan and the new branch's place."""
    result = plan.results[index]
    family = family_of(result, at)
    first = result.branches[family[0]]
    quantizer, ranking = _quantizer(plan, first), ranking_of(plan, first, states)
    if quantizer is None or ranking is None:
        raise ValueError(f"{result.model} has no ranking to grow by")
    told = {**quantizer.options, KEEP_FLOAT: ranking[0][:count]}
    steps = rekeyed(plan.steps, first, quantizer.key, made_anew(quantizer, options=told, inputs=quantizer.inputs))
    place = family[-1] + 1
    grown_branch = replace(renamed(first, steps), in_float=count)
    branches = (*result.branches[:place], grown_branch, *result.branches[place:])
    results = tuple(replace(one, branches=branches) if one is result else one for one in plan.results)
    added = {step.key: step for step in steps.values()}
    return replace(plan, steps={**plan.steps, **added}, results=results), place


def _quantizer(plan: Plan, branch: Branch) -> PlannedStep | None:
    return next((plan.steps[key] for key in branch.steps if KEEP_FLOAT in plan.steps[key].options), None)
