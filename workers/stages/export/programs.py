"""Load torch exported programs with every axis fixed, and call them by the names of their inputs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Contract
from farm.domain.errors import BadRequest
from farm.domain.facts import TensorSpec
from workers.stages.opening import Arrays, Call
from workers.stages.samples import seeded_probe

if TYPE_CHECKING:
    import numpy as np
    import torch

_TRAINING_ARGUMENT = {
    "aten::dropout": 2,
    "aten::batch_norm": 5,
    "aten::native_dropout": 2,
    "aten::native_batch_norm": 5,
}
"""Where an operator's `train` flag stands among its arguments."""


def load_program(path: Path, input_specs: tuple[TensorSpec, ...]) -> torch.export.ExportedProgram:
    """Load a .pt2, with the axes it leaves open fixed as `input_specs` say.

    Raises:
        BadRequest: it was exported in training mode, so that dropout drops and batch norm follows the batch.
    """
    import torch

    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(file)
    if operator := training_operator(program):
        raise BadRequest(
            f"The program was exported in training mode: {operator} is active.",
            remedy="Call model.eval() before torch.export.export.",
            operator=operator,
        )
    return fix_axes(program, input_specs) if program.range_constraints else program


def load_lines(input_specs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """Return the lines of Python that do what `load_program` does, for a command that repeats a call."""
    shapes = ", ".join(f"torch.zeros({spec.static_shape}, dtype=torch.{spec.dtype})" for spec in input_specs)
    return (
        "program = torch.export.load('model.pt2')",
        f"program = torch.export.export(program.module(), ({shapes},)) if program.range_constraints else program",
    )


def training_operator(program: torch.export.ExportedProgram) -> str | None:
    """Name the first operator of the graph that is in training mode."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        position = _TRAINING_ARGUMENT.get(schema.name) if schema else None
        if position is not None and len(node.args) > position and node.args[position] is True:
            return str(node.target)
        if schema and schema.name.startswith("aten::_native_batch_norm_legit_functional"):
            return str(node.target)
    return None


def fix_axes(
    program: torch.export.ExportedProgram, input_specs: tuple[TensorSpec, ...]
) -> torch.export.ExportedProgram:
    """Export the program's own module again with inputs of fixed shapes."""
    import torch

    return torch.export.export(program.module(), example_inputs(input_specs))


def example_inputs(input_specs: tuple[TensorSpec, ...]) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in seeded_probe(input_specs).values())


def callable_by_name(module: Any, contract: Contract) -> Call:
    """Wrap a torch module that takes its inputs in order; nested outputs are flattened in order."""
    import torch
    from torch.utils import _pytree as pytree

    def call(feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        with torch.inference_mode():
            answer = module(*(torch.from_numpy(feed[binding.artifact.name].copy()) for binding in contract.inputs))
        flat = [leaf for leaf in pytree.tree_leaves(answer) if isinstance(leaf, torch.Tensor)]
        return {b.artifact.name: leaf.numpy() for b, leaf in zip(contract.outputs, flat, strict=True)}

    return call
