"""Eager torch modules as exported programs and as TorchScript: the calls that every source of modules shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from farm.domain.artifact import Contract
from farm.domain.facts import Format, TensorSpec
from farm.domain.stage import StageInput, StageOutput
from workers.runtimes.torch_modules import ModuleSession
from workers.stages.samples import SEED, Ranges, example_tensors, seeded_probe
from workers.stages.tool_calls import python_command, python_specs, tool_call
from workers.stages.transforms import proven

PROGRAM_PRELOAD = ("torch", "torch.export")
SCRIPT_PRELOAD = ("torch",)
STATE_DICT_LINES = (
    "from workers.runtimes.torch_state_dict import load_built",
    "session = load_built(Path('model')).session",
)
HUGGING_FACE_LINES = (
    "from workers.runtimes.hugging_face import load_folder",
    "session = load_folder(Path('model'))[0]",
)
"""Lines of Python that leave a session of the folder `model` in `session`, for commands that repeat an export."""


def export_program(given: StageInput, session: ModuleSession, source: Format, *, lines: tuple[str, ...]) -> StageOutput:
    """Write model.pt2 of a module, every axis fixed.

    Args:
        given: options.input_specs with every axis fixed.
        session: the module.
        source: the format it was read from.
        lines: Python that makes `session`, for the command that repeats it.

    Raises:
        RequestError: the module itself refuses the inputs.
        ConversionFailed: torch.export does not take the module.
        NumericsBroken: the program does not compute its function.
    """
    observed = _observed(given, session)
    path = given.work / "model.pt2"
    with tool_call("torch"):
        save_program(session, given.options.input_specs, path, given.options.ranges)
    return proven(
        observed,
        path,
        source=source,
        target=Format.TORCH_EXPORTED_PROGRAM,
        opened=session,
        reproduce=_repeated(given, lines, save_program, path),
    )


def save_program(
    session: ModuleSession, specs: tuple[TensorSpec, ...], path: Path, ranges: Ranges | None = None
) -> None:
    """Write the exported program of a module for inputs as `specs` say."""
    import torch

    with torch.no_grad():
        torch.export.save(torch.export.export(session.flat(), example_tensors(specs, ranges)), path)


def trace_module(given: StageInput, session: ModuleSession, source: Format, *, lines: tuple[str, ...]) -> StageOutput:
    """Write model.pt, a trace of a module on other values than it is proven with.

    Args, Raises: as export_program; a branch that depends on values is frozen, which the proof may show.
    """
    import torch

    observed = _observed(given, session)
    path = given.work / "model.pt"
    with tool_call("torch", torch.jit.TracingCheckError):
        save_trace(session, given.options.input_specs, path, given.options.ranges)
    return proven(
        observed,
        path,
        source=source,
        target=Format.TORCHSCRIPT,
        reproduce=_repeated(given, lines, save_trace, path),
    )


def save_trace(session: ModuleSession, specs: tuple[TensorSpec, ...], path: Path, ranges: Ranges | None = None) -> None:
    """Write the trace of a module on one seeded input."""
    import torch

    example = example_tensors(specs, ranges, seed=SEED + 1)
    with torch.no_grad():
        torch.jit.trace(session.flat(), example, check_trace=False).save(str(path))


def _repeated(given: StageInput, lines: tuple[str, ...], call: Callable[..., None], path: Path) -> str:
    """Write the command that makes the session again and hands it to a function of this module."""
    options = given.options
    return python_command(
        "from pathlib import Path",
        "from farm.domain.facts import TensorSpec",
        f"from workers.stages.export.modules import {call.__name__}",
        *lines,
        f"{call.__name__}(session, {python_specs(options.input_specs)}, Path({path.name!r}), {options.ranges!r})",
    )


def _observed(given: StageInput, session: ModuleSession) -> StageInput:
    """Take the outputs as the module gives them on these inputs: only a run tells what a module returns."""
    specs: tuple[TensorSpec, ...] = given.options.input_specs
    found = session.run(seeded_probe(specs, given.options.ranges))
    outputs = tuple(TensorSpec(name, array.dtype.name, tuple(array.shape)) for name, array in found.items())
    return dataclasses.replace(given, contract=Contract.identity(specs, outputs))
