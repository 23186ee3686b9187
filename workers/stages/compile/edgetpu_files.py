"""What a file that was compiled for the Edge TPU tells of itself: mapping, memory, and how its tensors are bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.errors import ArtifactBroken, ConversionFailed, CorruptModel
from farm.domain.stage import StageInput
from workers.edgetpu.compiled import Compiled, read_compiled
from workers.edgetpu.compiler import PROGRAM
from workers.edgetpu.compiler_log import CompilerReport
from workers.edgetpu.model import declared_specs, read_model
from workers.stages.contracts import Declared, bind_unchanged
from workers.stages.transforms import given_contract


def bound(given: StageInput, model: Path, parts: Sequence[Path]) -> Contract:
    """Bind the tensors of a compiled file, or of its segments, as they declare them: nothing here could run them."""
    first, last = _declared(parts[0]), _declared(parts[-1])
    return bind_unchanged(given_contract(given), _declared(model), Declared(first.inputs, last.outputs))


def read_made(files: Sequence[Path], **evidence: Any) -> list[Compiled]:
    """Read files back that the compiler made; `evidence` says which compiler.

    Raises:
        ArtifactBroken: one can't be read, which is the compiler's doing and not the submitter's.
    """
    made = []
    for file in files:
        try:
            made.append(read_compiled(file.read_bytes()))
        except CorruptModel as exc:
            raise ArtifactBroken(
                f"{PROGRAM} made {file.name} of {file.stat().st_size} bytes, which can't be read: {exc.message}",
                remedy="Look at the compiler's log and at the disk of its host, then submit the job again: "
                "`farm retry JOB`.",
                **{"tool": PROGRAM, **evidence},
            ) from exc
    return made


def need_mapped(parts: Sequence[Compiled], report: CompilerReport, **evidence: Any) -> None:
    """Hold what a compiler said against the files it left; `evidence` says which compiler.

    Raises:
        ConversionFailed: nothing is on the device, and it did not say otherwise.
        ArtifactBroken: the files hold fewer parts for the device than it said.
    """
    found, cpu = sum(part.edge_tpu_subgraphs for part in parts), sum(len(part.cpu_operators) for part in parts)
    told = sum(model.edge_tpu_subgraphs or 0 for model in report.models) or min(report.mapped_count, 1)
    if found < told:
        raise ArtifactBroken(
            f"{PROGRAM} says that it made {told} Edge TPU subgraphs (operators mapped: {report.mapped_count}); the "
            f"file has {found}, and {cpu} operators on the CPU.",
            remedy="Look at the compiler's log: file and table are not of one run, or the compiler is broken.",
            **{"tool": PROGRAM, **evidence},
        )
    if found == 0:
        raise ConversionFailed(
            f"{PROGRAM} reported success, and the file has no Edge TPU subgraph: all {cpu} operators stay on the CPU.",
            remedy="Quantize every operator to int8, inputs and outputs too, and fix every shape.",
            **{"tool": PROGRAM, **evidence},
        )


def disagreement(parts: Sequence[Compiled], report: CompilerReport) -> str | None:
    """Say where the table of one model's operators and its file leave different numbers of them on the CPU.

    None where they agree, and where nothing can be held against the file: no table, or that of a search's tries.
    """
    found = sum(len(part.cpu_operators) for part in parts)
    if not report.operators or report.tries or len(parts) > 1 or report.cpu_count == found:
        return None
    return f"{PROGRAM}'s table leaves {report.cpu_count} operators on the CPU; the file has {found} there."


def compiled_facts(parts: Sequence[Compiled]) -> dict[str, Any]:
    """Tell what was read back of compiled files: their runtime, memory (bytes) and operators left on the CPU."""
    return {
        "predicted": False,
        "min_runtime_version": max(part.min_runtime_version for part in parts),
        "memory": {
            "cached_bytes": sum(part.cached_bytes for part in parts),
            "streamed_bytes": sum(part.streamed_bytes for part in parts),
        },
        "cpu_operators": [name for part in parts for _, name in part.cpu_operators],
        "edge_tpu_subgraphs": sum(part.edge_tpu_subgraphs for part in parts),
    }


def _declared(path: Path) -> Declared:
    model = read_model(path.read_bytes())
    return Declared(declared_specs(model, model.inputs), declared_specs(model, model.outputs))
