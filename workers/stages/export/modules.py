"""Eager torch modules as exported programs and as TorchScript: the calls that every source of modules shares."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from farm.domain.artifact import Contract
from farm.domain.facts import Format, TensorSpec
from farm.domain.stage import StageInput, StageOutput
from workers.runtimes.torch_modules import ModuleSession
from workers.stages.samples import SEED, seeded_probe
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import proven

if TYPE_CHECKING:
    import torch

PROGRAM_PRELOAD = ("torch", "torch.export")
SCRIPT_PRELOAD = ("torch",)


def export_program(given: StageInput, session: ModuleSession, source: Format, *, lines: tuple[str, ...]) -> StageOutput:
    """Write model.pt2 of a module, every axis fixed.

    Args:
        given: options.input_specs with every axis fixed.
        session: the module.
        source: the format it was read from.
        lines: Python that makes `model`, for the command that repeats it.

    Raises:
        RequestError: the module itself refuses the inputs.
        ConversionFailed: torch.export does not take the module.
        NumericsBroken: the program does not compute its function.
    """
    import torch

    observed = _observed(given, session)
    path = given.work / "model.pt2"
    with tool_call("torch"), torch.no_grad():
        torch.export.save(torch.export.export(session.flat(), _arguments(given.options.input_specs)), path)
    return proven(
        observed,
        path,
        source=source,
        target=Format.TORCH_EXPORTED_PROGRAM,
        opened=session,
        reproduce=python_command(
            "import torch",
            *lines,
            f"program = torch.export.export(model.eval(), ({_zeros(given.options.input_specs)},))",
            "torch.export.save(program, 'model.pt2')",
        ),
    )


def trace_module(given: StageInput, session: ModuleSession, source: Format, *, lines: tuple[str, ...]) -> StageOutput:
    """Write model.pt, a trace of a module on other values than it is proven with.

    Args, Raises: as export_program; a branch that depends on values is frozen, which the proof may show.
    """
    import torch

    observed = _observed(given, session)
    path = given.work / "model.pt"
    arguments = _arguments(given.options.input_specs, seed=SEED + 1)
    with tool_call("torch", torch.jit.TracingCheckError), torch.no_grad():
        torch.jit.trace(session.flat(), arguments, check_trace=False).save(str(path))
    return proven(
        observed,
        path,
        source=source,
        target=Format.TORCHSCRIPT,
        reproduce=python_command(
            "import torch",
            *lines,
            f"torch.jit.trace(model.eval(), ({_zeros(given.options.input_specs)},)).save('model.pt')",
        ),
    )


def _observed(given: StageInput, session: ModuleSession) -> StageInput:
    """Take the outputs as the module gives them on these inputs: only a run tells what a module returns."""
    specs: tuple[TensorSpec, ...] = given.options.input_specs
    found = session.run(seeded_probe(specs))
    outputs = tuple(TensorSpec(name, array.dtype.name, tuple(array.shape)) for name, array in found.items())
    return dataclasses.replace(given, contract=Contract.identity(specs, outputs))


def _arguments(specs: tuple[TensorSpec, ...], *, seed: int = SEED) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in seeded_probe(specs, seed=seed).values())


def _zeros(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"torch.zeros({spec.static_shape}, dtype=torch.{spec.dtype})" for spec in specs)
