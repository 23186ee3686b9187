"""How the process of a stage ended, as a failure that says who must act.

A stage that makes, compares or measures an artifact stands on one route of several: what ends it is the toolchain's,
and the next route is tried. An inspection and the run of the source itself stand on none: only another file or other
inputs help, so the submitter must act, and no route is promised.
"""

from __future__ import annotations

from farm.domain.errors import (
    BadRequest,
    CorruptModel,
    FarmError,
    HostError,
    JobCancelled,
    RequestError,
    TooLarge,
    ToolchainError,
    ToolCrashed,
    ToolOutOfDisk,
    ToolOutOfMemory,
    ToolTimedOut,
)
from farm.domain.facts import Format
from farm.domain.stage import Kind, StageSpec
from workers.device_faults import device_fault
from workers.sandbox.values import OUT_OF_MEMORY_EXIT, Call, Ending, Limits

ON_NO_ROUTE = (Kind.INSPECT, Kind.REFERENCE)
NOTHING_REPLACES = "Every result is held against this run of the source, and nothing replaces it."


def died(ending: Ending, call: Call, spec: StageSpec, log: str) -> FarmError:
    """Turn how a process ended into who must act; `log` is the end of what it said."""
    limits, stage = call.limits, spec.name
    if ending.end == "cancelled":
        return JobCancelled(f"{stage} was cancelled.")
    if ending.end == "setup":
        return HostError(f"The sandbox for {stage} could not be set up: {ending.detail}")
    if spec.kind in ON_NO_ROUTE:
        return _of_the_model(ending, limits, spec)
    if ending.end == "wall":
        return ToolTimedOut(
            f"{stage} did not end within {limits.wall_s:g} s and was stopped.",
            remedy="Another route is tried. If the model is that large, raise --max-runtime-seconds.",
        )
    if is_out_of_memory(ending):
        return ToolOutOfMemory(
            f"{stage} needed more than its {_gib(limits.memory_bytes)} of memory.", detail=ending.detail
        )
    if ending.end == "disk":
        return ToolOutOfDisk(f"{stage} wrote more than its {_gib(limits.disk_bytes)} of disk.")
    if (fault := device_fault(ending, call, spec, log)) is not None:
        return fault
    if ending.end == "signal":
        return ToolCrashed(
            f"{stage} crashed with {ending.signal}.",
            remedy="Another route is tried. The model may be damaged in a way its tool does not check.",
            signal=ending.signal,
        )
    return ToolchainError(f"{stage} ended with exit code {ending.exit_code} and no result.", detail=ending.detail)


def is_out_of_memory(ending: Ending) -> bool:
    return ending.end == "memory" or ending.exit_code == OUT_OF_MEMORY_EXIT


def too_large(spec: StageSpec, used: str, detail: str | None = None) -> TooLarge:
    """Blame the model for what it uses where no other route replaces the stage.

    Args:
        spec: an inspection, or the run of a source.
        used: what was used, and the limit.
        detail: how that is known.
    """
    if spec.kind is Kind.REFERENCE:
        remedy = f"Give smaller inputs (--input, one sample at a time) or a smaller model. {NOTHING_REPLACES}"
    elif spec.source is Format.TORCH_STATE_DICT:
        remedy = "Make the builder file build the module only, and submit a smaller one if it is that large."
    else:
        remedy = "A file may not unpack to more than that: look for what in it is so large, or submit a smaller one."
    return TooLarge(f"{_process(spec)} {used} ({spec.name}).", remedy=remedy, detail=detail)


def _of_the_model(ending: Ending, limits: Limits, spec: StageSpec) -> RequestError:
    """Blame what was submitted for the end of an inspection, or of the run of the source."""
    if ending.end == "wall":
        return _endless(limits, spec)
    if is_out_of_memory(ending):
        return too_large(spec, f"took more than {_gib(limits.memory_bytes)} of memory, its limit", ending.detail)
    if ending.end == "disk":
        return too_large(spec, f"wrote more than {_gib(limits.disk_bytes)} of disk, its limit", ending.detail)
    how = f"crashed with {ending.signal}" if ending.end == "signal" else f"ended with exit code {ending.exit_code}"
    message = f"{_process(spec)} {how}, without a result ({spec.name})."
    told = {"detail": ending.detail, "signal": ending.signal}
    if spec.source is Format.TORCH_STATE_DICT:
        return BadRequest(message, remedy=_building(spec), **told)
    if spec.kind is Kind.REFERENCE:
        return RequestError(
            message,
            remedy="The model does not run in its own format: see that it does so where it was made, then save it "
            f"again or submit it in another format. {NOTHING_REPLACES} If it runs elsewhere, submit it once more: the "
            "host may have been short of memory.",
            **told,
        )
    return CorruptModel(
        message,
        remedy="The file is damaged in a way that its reader does not check: see that the copy is complete, or save "
        "the model again. If it opens elsewhere, submit it once more: the host may have been short of memory.",
        **told,
    )


def _endless(limits: Limits, spec: StageSpec) -> BadRequest:
    if spec.kind is Kind.REFERENCE:
        return BadRequest(
            f"{_process(spec)} did not end within {limits.wall_s:g} s and was stopped ({spec.name}).",
            remedy="See that the model has no endless loop; if it is that slow, give smaller inputs (--input) or fewer "
            f"samples, or raise --max-runtime-seconds where it is below that. {NOTHING_REPLACES}",
        )
    return BadRequest(
        f"{spec.name} did not end within {limits.wall_s:g} s and was stopped; nothing was planned.",
        remedy="A file that builds a module must build it only: no training, no downloads, no endless loop. "
        "Of other files, check that the copy is complete.",
    )


def _building(spec: StageSpec) -> str:
    if spec.kind is Kind.REFERENCE:
        return (
            "Neither the builder file nor the module it builds may end or signal processes, or leave any behind. "
            f"{NOTHING_REPLACES}"
        )
    return (
        "Make the file build the module only: it may not end or signal processes, nor leave any behind. If it does "
        "none of that, save the weights again with torch.save(model.state_dict(), file)."
    )


def _process(spec: StageSpec) -> str:
    is_run, is_built = spec.kind is Kind.REFERENCE, spec.source is Format.TORCH_STATE_DICT
    if is_built:
        return f"The process that ran the builder file and {'its module' if is_run else 'loaded the weights'}"
    return f"The process that {'runs the submitted model' if is_run else 'reads the submitted file'}"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"
