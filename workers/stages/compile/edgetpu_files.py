"""What a file that was compiled for the Edge TPU tells of itself: mapping, memory, and how its tensors are bound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.stage import StageInput
from workers.edgetpu.compiled import Compiled
from workers.edgetpu.model import declared_specs, read_model
from workers.stages.contracts import Declared, bind_unchanged
from workers.stages.transforms import given_contract


def bound(given: StageInput, model: Path, parts: Sequence[Path]) -> Contract:
    """Bind the tensors of a compiled file, or of its segments, as they declare them: nothing here could run them."""
    first, last = _declared(parts[0]), _declared(parts[-1])
    return bind_unchanged(given_contract(given), _declared(model), Declared(first.inputs, last.outputs))


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
