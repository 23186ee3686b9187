"""Torch exported programs made ready for an exporter: in evaluation mode, every axis fixed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.facts import TensorSpec
from workers.runtimes.torch_exported_program import load_program
from workers.stages.samples import Ranges, example_tensors
from workers.stages.tool_calls import python_specs, tool_call
from workers.stages.training_mode import refuse_training_program

if TYPE_CHECKING:
    import torch


def load_fixed_program(
    path: Path, input_specs: tuple[TensorSpec, ...], ranges: Ranges | None = None
) -> torch.export.ExportedProgram:
    """Load a .pt2; axes it leaves open are fixed as `input_specs` say, by exporting its module again.

    Raises:
        BadRequest: it was exported in training mode, so that dropout drops and batch norm follows the batch.
        ConversionFailed: torch.export does not take its module with these axes.
    """
    import torch

    program: torch.export.ExportedProgram = load_program(path)
    refuse_training_program(program)
    if not program.range_constraints:
        return program
    with tool_call("torch"):
        return torch.export.export(program.module(), example_tensors(input_specs, ranges))


def load_lines(input_specs: tuple[TensorSpec, ...], ranges: Ranges | None = None) -> tuple[str, ...]:
    """Return the lines of Python that call `load_fixed_program`, for a command that repeats a call."""
    return (
        "from pathlib import Path",
        "from farm.domain.facts import TensorSpec",
        "from workers.stages.export.programs import load_fixed_program",
        f"program = load_fixed_program(Path('model.pt2'), {python_specs(input_specs)}, {ranges!r})",
    )
