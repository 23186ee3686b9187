"""What to do next for a job: a pure decision over its plan and the states of its steps.

A result works on one branch at a time. A branch is lost when one of its steps failed, or when its float result is not
the source's function; the next branch then takes over, unless the failure is one that another toolchain can't mend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from farm.domain.artifact import Artifact, Contract
from farm.domain.errors import Actor, Failure, FarmBug, NumericsBroken
from farm.domain.plan import Branch, Plan, PlannedResult
from farm.domain.recipe import BASELINE
from farm.domain.verdict import numerics_failed


class StepPhase(StrEnum):
    """States of a step; the names are those of the report."""

    WAITING = "waiting"
    READY = "ready"
    PUBLISHED = "published"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


LOST = (StepPhase.FAILED, StepPhase.SKIPPED, StepPhase.CANCELLED)
ENDED = (StepPhase.SUCCEEDED, *LOST)


@dataclass(frozen=True, slots=True)
class StepState:
    """A step as the ledger knows it."""

    step: str
    key: str
    stage: str
    phase: StepPhase
    outputs: Mapping[str, Artifact] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    contract: Contract | None = None
    failure: Failure | None = None
    reused: bool = False
    attempts: int = 0
    isolation: str | None = None
    queue_time_s: float | None = None
    run_time_s: float | None = None
    age_s: float | None = None
    host: str | None = None
    reproduce: str | None = None
    tool_versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where each result stands: the branch it works on, and whether it is concluded."""

    branch: int = 0
    concluded: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write: branches to start, steps to dispatch or to skip, results to conclude."""

    start: tuple[tuple[int, int], ...] = ()
    dispatch: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    conclude: tuple[int, ...] = ()


States = Mapping[str, StepState]


def decide(plan: Plan, progress: Sequence[Progress], states: States) -> Decision:
    """Decide what is to be done now; applying it and deciding again until nothing is left is idempotent."""
    start: list[tuple[int, int]] = []
    conclude: list[int] = []
    dispatch: dict[str, None] = {}
    skip: dict[str, None] = {}
    for index, (result, at) in enumerate(zip(plan.results, progress, strict=True)):
        if at.concluded:
            continue
        if result.failure is not None:
            conclude.append(index)
            continue
        branch = result.branches[at.branch]
        failure = branch_failure(plan, progress, index, at.branch, states)
        if failure is not None:
            skip |= dict.fromkeys(k for k in branch.steps if _is_doomed(plan, k, states))
            if may_fall_back(failure) and at.branch + 1 < len(result.branches):
                start.append((index, at.branch + 1))
            elif _baseline_concluded(result, progress):
                conclude.append(index)
            continue
        dispatch |= dict.fromkeys(k for k in branch.steps if _is_ready(plan, k, states))
        done = all(k in states and states[k].phase is StepPhase.SUCCEEDED for k in branch.steps)
        if done and _baseline_concluded(result, progress):
            conclude.append(index)
    return Decision(tuple(start), tuple(dispatch), tuple(skip), tuple(conclude))


def branch_failure(plan: Plan, progress: Sequence[Progress], index: int, branch: int, states: States) -> Failure | None:
    """Say why a branch is lost, or None while it is not."""
    result = plan.results[index]
    chosen = result.branches[branch]
    lost = [states[key] for key in chosen.steps if key in states and states[key].phase in LOST]
    if lost:
        told = (state.failure for state in lost if state.failure is not None)
        return next(told, None) or _unexplained(lost[0])
    compared = states.get(chosen.compare)
    if compared is not None and compared.phase is StepPhase.SUCCEEDED:
        numerics = compared.facts.get("numerics", {})
        if numerics_failed(result.recipe, numerics):
            return _numerics_failure(result, chosen, numerics)
    return _float_failure(plan, progress, result, chosen, states)


def may_fall_back(failure: Failure) -> bool:
    """Tell whether another route may succeed where this one failed: a tool's fault, or a bug of ours in one stage."""
    return failure.who_must_act in (Actor.TOOLCHAIN, Actor.US)


def _float_failure(
    plan: Plan, progress: Sequence[Progress], result: PlannedResult, chosen: Branch, states: States
) -> Failure | None:
    """Hold a quantized branch against the float result of the same route: it is lost when that file is not the source.

    Only the comparison says so: a float file that could not be scored or measured tells nothing of its quantized kin.
    """
    if result.recipe == BASELINE or result.baseline is None:
        return None
    baseline = plan.results[result.baseline]
    for branch in baseline.branches[: progress[result.baseline].branch + 1]:
        compared = states.get(branch.compare)
        if branch.route != chosen.float_route or not branch.route or compared is None:
            continue
        if compared.phase is StepPhase.FAILED and compared.failure is not None and may_fall_back(compared.failure):
            return compared.failure
        numerics = compared.facts.get("numerics", {})
        if compared.phase is StepPhase.SUCCEEDED and numerics_failed(BASELINE, numerics):
            return _numerics_failure(baseline, branch, numerics)
    return None


def _unexplained(state: StepState) -> Failure:
    """Say that a step ended for another job's sake: its failure stands there, and must not hold this job up."""
    return FarmBug(
        f"Step {state.stage} was {state.phase} without a failure of its own in this job.",
        remedy="Run `farm retry JOB`: the step is then run again.",
    ).failure


def _numerics_failure(result: PlannedResult, branch: Branch, numerics: Mapping[str, Any]) -> Failure:
    way = " → ".join(branch.route) or "the source as it is"
    sqnr = numerics.get("sqnr_db")
    shown = "no SQNR" if sqnr is None else f"an SQNR of {sqnr:.1f} dB"
    return NumericsBroken(
        f"{result.model} by {way} gives {shown} against the source; a float32 result needs 30 dB.",
        remedy="Try another runtime, and look at numerics.per_output for the output that differs.",
    ).failure


def _is_ready(plan: Plan, key: str, states: States) -> bool:
    state = states.get(key)
    if state is None or state.phase is not StepPhase.WAITING:
        return False
    return all(need in states and states[need].phase is StepPhase.SUCCEEDED for need in plan.steps[key].needs)


def _is_doomed(plan: Plan, key: str, states: States) -> bool:
    state = states.get(key)
    if state is None or state.phase is not StepPhase.WAITING:
        return False
    needs = plan.steps[key].needs
    return any(need in states and (states[need].phase in LOST or _is_doomed(plan, need, states)) for need in needs)


def _baseline_concluded(result: PlannedResult, progress: Sequence[Progress]) -> bool:
    return result.baseline is None or progress[result.baseline].concluded
