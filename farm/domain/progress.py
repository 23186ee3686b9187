"""How far a result is: the states of its steps, and whether the branch it works on is lost.

A branch is lost when one of its steps failed, or when its float result is not the source's function. A check on a build
host that could not be made loses nothing: the comparison on the target still decides.
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
    """Say why a branch is lost, or None while it is not."""
    result = plan.results[index]
    chosen = result.branches[branch]
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


def gives_way(branch: Branch, failure: Failure) -> bool:
    """Tell whether a result's next branch takes over from a lost one; a model by itself does from several together."""
    return bool(branch.beside) or may_fall_back(failure)


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
