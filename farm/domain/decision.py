"""What to do next for a job: a pure decision over its plan and the states of its steps.

A result works on one branch at a time. When one is lost, the next one takes over, unless the failure is one that no
other toolchain mends. Models that were compiled together wait for each other's comparison, and give that up together. A
candidate of a search is held before it is measured, until the search says that it is worth it.
Cheap recipes go first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from farm.domain.plan import Branch, Plan, PlannedResult
from farm.domain.progress import (
    ENDED,
    LOST,
    UNDER_WAY,
    Progress,
    States,
    StepPhase,
    StepState,
    branch_failure,
    gives_way,
    reproduction_of,
    stand_together,
)
from farm.domain.recipe import RECIPES
from farm.domain.search import Fate, Standing, standing


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write: branches to start, steps to add beside them, to dispatch or to skip, results to conclude.

    `start` pairs a result with its branch, `grow` one with the number of operators that its next round of int8-mixed
    leaves in float.
    """

    start: tuple[tuple[int, int], ...] = ()
    grow: tuple[tuple[int, int], ...] = ()
    reproduce: tuple[str, ...] = ()
    dispatch: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    conclude: tuple[int, ...] = ()


def decide(plan: Plan, progress: Sequence[Progress], states: States) -> Decision:
    """Decide what is to be done now; applying it and deciding again until nothing is left is idempotent."""
    due = _Due()
    for index in sorted(range(len(plan.results)), key=lambda one: _PLACES.get(plan.results[one].recipe, len(_PLACES))):
        result = plan.results[index]
        open_still = not progress[index].concluded
        if open_still and (result.failure is not None or _move(plan, progress, index, states, due)):
            due.conclude.append(index)
    return Decision(
        tuple(due.start),
        tuple(due.grow),
        tuple(due.reproduce),
        tuple(due.dispatch),
        tuple(due.skip),
        tuple(due.conclude),
    )


_PLACES = {name: place for place, name in enumerate(RECIPES)}


@dataclass(slots=True)
class _Due:
    """A decision while it is made; dicts keep each key once, in order."""

    start: list[tuple[int, int]] = field(default_factory=list)
    grow: list[tuple[int, int]] = field(default_factory=list)
    reproduce: dict[str, None] = field(default_factory=dict)
    dispatch: dict[str, None] = field(default_factory=dict)
    skip: dict[str, None] = field(default_factory=dict)
    conclude: list[int] = field(default_factory=list)


def _move(plan: Plan, progress: Sequence[Progress], index: int, states: States, due: _Due) -> bool:
    """Note what one result needs now, and tell whether it can be concluded."""
    result, at = plan.results[index], progress[index].branch
    branch = result.branches[at]
    shrinking = reproduction_of(result, at, states)
    beside = () if shrinking is None else (shrinking,)
    due.reproduce |= dict.fromkeys(key for key in beside if key not in states)
    failure = branch_failure(plan, progress, index, at, states)
    stands = standing(plan, progress, index, states)
    going_on = (*branch.steps, *beside) if failure is None else beside
    due.dispatch |= dict.fromkeys(key for key in going_on if key not in stands.held and _is_ready(plan, key, states))
    if failure is not None:
        due.skip |= dict.fromkeys(key for key in (*branch.steps, *beside) if _is_doomed(plan, key, states))
    if stands.grow is not None or stands.turn is not None:
        due.grow += [(index, stands.grow)] if stands.grow is not None else []
        due.start += [(index, stands.turn)] if stands.turn is not None else []
        return False
    if gives_way(plan, progress, index, at, states):
        due.start.append((index, at + 1))
        return False
    is_over = _is_over(branch, stands, states) if failure is None else not _is_told_of(result, at, states)
    reproduced = all(key in states and states[key].phase in ENDED for key in beside)
    if not (is_over and reproduced and _baseline_concluded(result, progress)):
        return False
    if not stand_together(plan, progress, index, states):
        return False
    due.skip |= dict.fromkeys(_never_taken(result, states))
    return True


def _never_taken(result: PlannedResult, states: States) -> Iterator[str]:
    """Name the measurements that a concluded result leaves out: what was given up, int8-mixed's other rounds."""
    for branch in result.branches:
        keys = (key for key in (branch.probe, branch.measure) if key is not None and key in states)
        yield from (key for key in keys if _waits(states[key]))


def _is_over(branch: Branch, stands: Standing, states: States) -> bool:
    """Tell whether a branch that is not lost needs nothing more: it was given up, or all of it was done."""
    if stands.fate is Fate.DROPPED:
        return True
    return stands.fate is Fate.CHOSEN and _is_done(branch, states)


def _is_done(branch: Branch, states: States) -> bool:
    """Tell whether every step succeeded; of one that only looks it is enough that it ended."""
    wanted = ((states[key].phase if key in states else None, key in branch.looks) for key in branch.steps)
    return all(phase is StepPhase.SUCCEEDED or (only_looks and phase in ENDED) for phase, only_looks in wanted)


def _is_told_of(result: PlannedResult, last: int, states: States) -> bool:
    """Tell whether a check is under way that may yet say where a lost branch went wrong."""
    looks = (states.get(key) for branch in result.branches[: last + 1] for key in branch.looks)
    return any(state is not None and state.phase in UNDER_WAY for state in looks)


def _is_ready(plan: Plan, key: str, states: States) -> bool:
    if key not in states or not _waits(states[key]):
        return False
    return all(need in states and states[need].phase is StepPhase.SUCCEEDED for need in plan.steps[key].needs)


def _is_doomed(plan: Plan, key: str, states: States) -> bool:
    if key not in states or not _waits(states[key]):
        return False
    needs = plan.steps[key].needs
    return any(need in states and (states[need].phase in LOST or _is_doomed(plan, need, states)) for need in needs)


def _baseline_concluded(result: PlannedResult, progress: Sequence[Progress]) -> bool:
    return result.baseline is None or progress[result.baseline].concluded


def _waits(state: StepState) -> bool:
    return state.phase is StepPhase.WAITING
