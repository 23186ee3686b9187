"""How far a result is: the states of its steps, and whether the branch it works on is lost.

A branch is lost when one of its steps failed, or when its float result is not the source's function. A check on a build
host that could not be made loses nothing: the comparison on the target still decides. What several models were compiled
to together is kept or given up by all of them: files that don't share the memory evict each other from it. It stands
once the file of each was compared; what fails later costs that model its result, and no model the sharing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from farm.domain.artifact import Artifact, Contract
from farm.domain.errors import Actor, ArtifactBroken, ContractMismatch, Failure, FarmBug, NumericsBroken, ToolCrashed
from farm.domain.plan import Branch, Check, Plan, PlannedResult
from farm.domain.recipe import BASELINE, RECIPES
from farm.domain.stage import TRANSFORMS
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
UNDER_WAY = (StepPhase.READY, StepPhase.PUBLISHED, StepPhase.RUNNING)


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


States = Mapping[str, StepState]


def reproduction_of(result: PlannedResult, last: int, states: States) -> str | None:
    """Find the step that shrinks the model of a result's first failed transform; None when none is to be shrunk.

    Only a failure of a tool is worth it, once for each result, and not of a baseline that nobody asked for.
    """
    for branch in result.branches[: last + 1] if result.listed else ():
        for key in branch.steps:
            failure = states[key].failure if key in states and states[key].phase is StepPhase.FAILED else None
            if key in branch.reproductions and failure is not None and is_of_a_tool(failure):
                return branch.reproductions[key]
    return None


def branch_failure(plan: Plan, progress: Sequence[Progress], index: int, branch: int, states: States) -> Failure | None:
    """Say why a branch is lost, or None while it is not; one of several models together is lost for all of them."""
    chosen = plan.results[index].branches[branch]
    own = _own_failure(plan, progress, index, chosen, states)
    if own is not None or not chosen.beside:
        return own
    left = (other for other in _partners(plan, index, chosen) if _has_left(plan, progress, other, index))
    return next((told for other in left if (told := _partner_failure(plan, progress, other, index, states))), None)


def _own_failure(
    plan: Plan, progress: Sequence[Progress], index: int, chosen: Branch, states: States
) -> Failure | None:
    result = plan.results[index]
    if (failure := _check_failure(result, chosen, states)) is not None:
        return failure
    wanted = [states[key] for key in chosen.steps if key not in chosen.looks and key in states]
    lost = [state for state in wanted if state.phase in LOST and not _is_let_go(chosen, state)]
    if lost:
        told = (_told_to(result, chosen, state) for state in lost)
        return next((failure for failure in told if failure), None) or _unexplained(lost[0])
    compared = states.get(chosen.compare)
    if compared is not None and compared.phase is StepPhase.SUCCEEDED:
        numerics = compared.facts.get("numerics", {})
        if numerics_failed(result.recipe, numerics):
            return _numerics_failure(result, chosen, numerics)
    return _float_failure(plan, progress, result, chosen, states)


def checked_and_lost(state: StepState) -> bool:
    """Tell whether a check found its file broken, other than being unable to look."""
    broken = (ArtifactBroken.code, ContractMismatch.code, ToolCrashed.code)
    return state.phase is StepPhase.FAILED and state.failure is not None and state.failure.code in broken


def may_fall_back(failure: Failure) -> bool:
    """Tell whether another route may succeed where this one failed: a tool's failure, or a bug of ours in one stage."""
    return failure.who_must_act is Actor.US or is_of_a_tool(failure)


def gives_way(plan: Plan, progress: Sequence[Progress], index: int, branch: int, states: States) -> bool:
    """Tell whether a result's next branch takes over from one that is lost."""
    branches = plan.results[index].branches
    failure = branch_failure(plan, progress, index, branch, states)
    if failure is None or branch + 1 == len(branches):
        return False
    if branches[branch].beside:
        return _parts(plan, progress, index, branches[branch], states)
    return may_fall_back(failure)


def stand_together(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> bool:
    """Tell whether no model that a result's branch is compiled together with can still give up the sharing."""
    chosen = plan.results[index].branches[progress[index].branch]
    return all(_stands(plan, progress, other, states) for other in _partners(plan, index, chosen))


def _stands(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> bool:
    if progress[index].concluded:
        return True
    result, at = plan.results[index], progress[index].branch
    chosen = result.branches[at]
    if not chosen.beside or _parts(plan, progress, index, chosen, states):
        return False
    phases = {states[key].phase for key in _up_to_compare(chosen).steps if key in states}
    lost = branch_failure(plan, progress, index, at, states) is not None
    open_still = phases.intersection(UNDER_WAY) if lost else phases.difference(ENDED)
    return not open_still and (result.baseline is None or progress[result.baseline].concluded)


def _parts(plan: Plan, progress: Sequence[Progress], index: int, chosen: Branch, states: States) -> bool:
    """Tell whether a model gives up what it was compiled to together with others.

    It does when one of them did; when a step that makes, compiles or hands out one of their files failed, for whatever
    reason; or when its own file did not stand the comparison, and another route may.
    """
    transforms = (states[key] for key in chosen.steps if key in states and plan.steps[key].kind in TRANSFORMS)
    if any(state.phase in LOST for state in transforms):
        return True
    if any(_has_left(plan, progress, other, index) for other in _partners(plan, index, chosen)):
        return True
    failure = _own_failure(plan, progress, index, _up_to_compare(chosen), states)
    return failure is not None and may_fall_back(failure)


def _up_to_compare(chosen: Branch) -> Branch:
    """Return a branch without what is done with a file that was compared."""
    later = (chosen.evaluate, chosen.probe, chosen.measure)
    return replace(chosen, steps=tuple(key for key in chosen.steps if key not in later))


def _partners(plan: Plan, index: int, chosen: Branch) -> list[int]:
    """List the results whose models a branch is compiled together with."""
    own = plan.results[index]
    cell = (own.target, own.target_runtime, own.recipe)
    return [
        other
        for other, result in enumerate(plan.results if chosen.beside else ())
        if result.model in chosen.beside and (result.target, result.target_runtime, result.recipe) == cell
    ]


def _has_left(plan: Plan, progress: Sequence[Progress], other: int, index: int) -> bool:
    """Tell whether another result works on a branch that has nothing to do with this one's model."""
    return plan.results[index].model not in plan.results[other].branches[progress[other].branch].beside


def _partner_failure(
    plan: Plan, progress: Sequence[Progress], other: int, index: int, states: States
) -> Failure | None:
    """Say why another result gave up the sharing; None when it did so for a third one's sake."""
    name, partner = plan.results[index].model, plan.results[other]
    shared = next(branch for branch in partner.branches if name in branch.beside)
    failure = _own_failure(plan, progress, other, shared, states)
    if failure is None:
        return None
    return replace(failure, message=f"{partner.model}, compiled together with {name}, failed: {failure.message}")


def is_of_a_tool(failure: Failure) -> bool:
    """Tell whether a tool is at fault, or complained: what was raised while it ran names it with its version.

    What its message is known to mean may ask the submitter or the operator to act; another tool may still do the work.
    A host that broke down says nothing of any tool.
    """
    complained = {"tool", "version"} <= failure.evidence.keys()
    return failure.who_must_act is Actor.TOOLCHAIN or (complained and failure.who_must_act is not Actor.HOST)


def _told_to(result: PlannedResult, chosen: Branch, state: StepState) -> Failure | None:
    """Tell a step's failure; with the model's name, where it is another one that was to be compiled beside this one."""
    failure = state.failure
    other = next((name for name, keys in chosen.beside.items() if state.key in keys), None)
    if failure is None or other is None:
        return failure
    return replace(failure, message=f"{other}, to be compiled together with {result.model}, failed: {failure.message}")


def _is_let_go(chosen: Branch, state: StepState) -> bool:
    """Tell whether a measurement was left out by a search: that loses nothing."""
    return state.phase is StepPhase.SKIPPED and state.key in (chosen.probe, chosen.measure)


def _check_failure(result: PlannedResult, chosen: Branch, states: States) -> Failure | None:
    """Name the first stage of a branch whose output is broken, or whose float output is not the source's function."""
    for check in chosen.checks:
        state = states.get(check.step or "")
        if state is None:
            continue
        if checked_and_lost(state) and state.failure is not None:
            told = f"{result.model} after {check.stage}, opened under {check.runtime}: {state.failure.message}"
            return replace(state.failure, message=told)
        numerics = state.facts.get("numerics", {})
        if state.phase is StepPhase.SUCCEEDED and numerics_failed(check.recipe, numerics):
            return _bad_stage(result, check, numerics)
    return None


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


def _bad_stage(result: PlannedResult, check: Check, numerics: Mapping[str, Any]) -> Failure:
    return NumericsBroken(
        f"{result.model} leaves its source at stage {check.stage}: {_reached(numerics)} under {check.runtime} "
        f"on a build host; the float part of a route needs {RECIPES[BASELINE].failed_below_db:.0f} dB.",
        remedy=f"Look at how {check.stage} treats that output, or try another route or runtime.",
        stage=check.stage,
        tensor=numerics.get("worst_output"),
    ).failure


def _numerics_failure(result: PlannedResult, branch: Branch, numerics: Mapping[str, Any]) -> Failure:
    way = " → ".join(branch.route) or "the source as it is"
    return NumericsBroken(
        f"{result.model} by {way} gives {_reached(numerics)} against the source on {result.target}; "
        f"a float32 result needs {RECIPES[BASELINE].failed_below_db:.0f} dB.",
        remedy="Try another runtime, and look at numerics.per_output for the output that differs.",
        stage=f"compare on {result.target}",
        tensor=numerics.get("worst_output"),
    ).failure


def _reached(numerics: Mapping[str, Any]) -> str:
    """Say how far the worst output is from the source's."""
    sqnr, worst = numerics.get("sqnr_db"), numerics.get("worst_output")
    shown = "no SQNR" if sqnr is None else f"an SQNR of {sqnr:.1f} dB"
    return f"{shown} in output {worst!r}" if worst else shown


def artifact_of(result: PlannedResult, branch: Branch, states: States) -> Artifact:
    """Find the files of a branch: what its last transform made, or the source itself.

    Raises:
        FarmBug: that transform gave no such output.
    """
    given = branch.artifact
    if given.artifact is not None:
        return given.artifact
    outputs = states[given.step or ""].outputs
    if given.output not in outputs:
        raise FarmBug(f"Step {given.step} of {result.model} gave no output {given.output!r}.")
    return outputs[given.output]
