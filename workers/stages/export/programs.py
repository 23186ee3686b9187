"""Torch exported programs made ready for an exporter: in evaluation mode, every axis fixed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.facts import TensorSpec
from workers.runtimes.torch_exported_program import load_program
from workers.stages.samples import seeded_probe
from workers.stages.training_mode import refuse_training_program

if TYPE_CHECKING:
    import torch


def load_fixed_program(path: Path, input_specs: tuple[TensorSpec, ...]) -> torch.export.ExportedProgram:
    """Load a .pt2; axes it leaves open are fixed as `input_specs` say, by exporting its module again.

    Raises:
        BadRequest: it was exported in training mode, so that dropout drops and batch norm follows the batch.
    """
    import torch

    program: torch.export.ExportedProgram = load_program(path)
    refuse_training_program(program)
    if not program.range_constraints:
        return program
    arguments = tuple(torch.from_numpy(array) for array in seeded_probe(input_specs).values())
    return torch.export.export(program.module(), arguments)


def load_lines(input_specs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """Return the lines of Python that do what `load_fixed_program` does, for a command that repeats a call."""
    zeros = ", ".join(f"torch.zeros({spec.static_shape}, dtype=torch.{spec.dtype})" for spec in input_specs)
    return (
        "program = torch.export.load('model.pt2')",
        f"program = torch.export.export(program.module(), ({zeros},)) if program.range_constraints else program",
    )
