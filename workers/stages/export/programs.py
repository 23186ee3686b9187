"""Torch exported programs made ready for an exporter: in evaluation mode, every axis fixed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.errors import BadRequest
from farm.domain.facts import TensorSpec
from workers.runtimes.torch_exported_program import load_program
from workers.stages.samples import seeded_probe

if TYPE_CHECKING:
    import torch

_TRAIN_FLAG = {"aten::dropout": 2, "aten::native_dropout": 2, "aten::batch_norm": 5, "aten::native_batch_norm": 5}
"""Where an operator's `train` flag stands among its arguments."""
_ALWAYS_TRAINING = ("aten::_native_batch_norm_legit_functional",)


def load_fixed_program(path: Path, input_specs: tuple[TensorSpec, ...]) -> torch.export.ExportedProgram:
    """Load a .pt2; axes it leaves open are fixed as `input_specs` say, by exporting its module again.

    Raises:
        BadRequest: it was exported in training mode, so that dropout drops and batch norm follows the batch.
    """
    import torch

    program: torch.export.ExportedProgram = load_program(path)
    if operator := training_operator(program):
        raise BadRequest(
            f"The program was exported in training mode: {operator} is active.",
            remedy="Call model.eval() before torch.export.export.",
            operator=operator,
        )
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


def training_operator(program: torch.export.ExportedProgram) -> str | None:
    """Name the first operator of the graph that is in training mode."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            continue
        flag = _TRAIN_FLAG.get(schema.name, len(node.args))
        if schema.name in _ALWAYS_TRAINING or (flag < len(node.args) and node.args[flag] is True):
            return str(node.target)
    return None
