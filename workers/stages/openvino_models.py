"""OpenVINO models on their way into files: axes fixed, one name per tensor, written as model.xml and model.bin.

Tool: openvino.convert_model and openvino.save_model, openvino 2026.4.1.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-preparation/convert-model-to-ir.html
Limits: every axis is fixed; weights and activations stay float32; constants are folded while converting, which a loop
of many turns can make endless (the stage's wall time ends it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import ContractMismatch
from farm.domain.facts import Format, TensorSpec
from farm.domain.stage import StageInput, StageOutput
from workers.runtimes.openvino import named_ports, refusals
from workers.stages.tool_calls import python_command, python_specs, tool_call
from workers.stages.transforms import interface, proven

if TYPE_CHECKING:
    import openvino

TOOLS = ("openvino",)
PRELOAD = ("openvino",)
TIMEOUT_S = 900.0
FOLDER, FILE = "openvino", "model.xml"


def converter_errors() -> tuple[type[Exception], ...]:
    """Name what the converter raises beside Python's own exceptions."""
    return tuple(kind for kind in refusals() if kind.__module__.startswith("openvino"))


@contextmanager
def openvino_call() -> Iterator[None]:
    """Turn what the converter raises into a typed failure that begins with the operators it has no rule for."""
    with tool_call("openvino", *converter_errors()):
        try:
            yield
        except converter_errors() as exc:
            raise type(exc)(summary_first(str(exc))) from exc


def summary_first(text: str) -> str:
    """Move the summary of a failed conversion before the details, which may be many."""
    details, found, summary = text.partition("Summary:")
    return f"{summary.strip()}\n{details}" if found else text


def fix_axes(model: openvino.Model, inputs: Sequence[TensorSpec]) -> None:
    """Give every input the size of its spec, and fold what became constant.

    Raises:
        ContractMismatch: the model lacks an input of that name, or has others.
    """
    from openvino.passes import ConstantFolding, Manager

    ports = _ports(model.inputs, [spec.name for spec in inputs])
    model.reshape({port: list(spec.static_shape) for port, spec in zip(ports, inputs, strict=True)})
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


def rename(model: openvino.Model, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Give each tensor one name, from any of the names that the tool gave it.

    Raises:
        ContractMismatch: the model has other tensors than those.
    """
    for ports, names in ((model.inputs, inputs), (model.outputs, outputs)):
        for port, name in zip(_ports(ports, list(names)), names.values(), strict=True):
            port.tensor.set_names({name})


def name_by_place(model: openvino.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give each tensor one name, by the order in the model.

    Raises:
        ContractMismatch: the model has more tensors, or fewer.
    """
    for ports, names in ((model.inputs, inputs), (model.outputs, outputs)):
        if len(ports) != len(names):
            raise _mismatch(ports, names)
        for port, name in zip(ports, names, strict=True):
            port.tensor.set_names({name})


def _ports(ports: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Find ports by any of their names, in the order of `names`."""
    by_name = {name: port for port in ports for name in port.names}
    if len(ports) != len(names) or not by_name.keys() >= set(names):
        raise _mismatch(ports, names)
    return [by_name[name] for name in names]


def _mismatch(ports: Sequence[Any], names: Sequence[str]) -> ContractMismatch:
    found = ", ".join(name for _, name in named_ports(ports)) or "none"
    return ContractMismatch(f"The model has the tensors {', '.join(names) or 'none'}, OpenVINO's form of it {found}.")


def convert_torch(
    model: object, inputs: tuple[TensorSpec, ...], outputs: list[str], example: tuple[object, ...] | None = None
) -> openvino.Model:
    """Convert an exported program, or a TorchScript module with an example of its inputs; axes fixed, tensors named."""
    import openvino

    converted: openvino.Model = openvino.convert_model(model, example_input=example)
    name_by_place(converted, [spec.name for spec in inputs], outputs)
    fix_axes(converted, inputs)
    return converted


def read(file: Path, inputs: tuple[TensorSpec, ...], outputs: list[str]) -> openvino.Model:
    """Convert a file that openvino reads by itself; axes fixed, tensors named as in the file."""
    import openvino

    model: openvino.Model = openvino.convert_model(file)
    fix_axes(model, inputs)
    rename(model, {spec.name: spec.name for spec in inputs}, {name: name for name in outputs})
    return model


def convert_file(given: StageInput, file: Path, source: Format, *, lines: tuple[str, ...] = ()) -> StageOutput:
    """Convert a file that openvino reads by itself; tensors keep the file's names and order.

    `lines` of Python make that file for the command that repeats it, where it is none of those given.

    Raises:
        ConversionFailed: an operator without a conversion rule, named.
        NumericsBroken: the IR does not compute the model's function.
    """
    inputs, outputs = interface(given)
    with openvino_call():
        path = save(read(file, inputs, outputs), given.work)
    name = file.name if lines else f"model/{file.name}" if given.files["model"].is_dir() else f"model{file.suffix}"
    return proven(
        given,
        path,
        source=source,
        target=Format.OPENVINO_IR,
        reproduce=python_command(
            "from pathlib import Path",
            "from farm.domain.facts import TensorSpec",
            *lines,
            "from workers.stages.openvino_models import read, save",
            f"save(read(Path({name!r}), {python_specs(inputs)}, {outputs!r}), Path('.'))",
        ),
    )


def save(model: openvino.Model, work: Path) -> Path:
    """Write a float32 model into the folder `work`/openvino."""
    return write(model, work / FOLDER)


def write(model: openvino.Model, folder: Path, *, float16: bool = False) -> Path:
    """Write model.xml and model.bin into a new folder; weights in float16 where asked for and where they fit."""
    import openvino

    folder.mkdir()
    openvino.save_model(model, folder / FILE, compress_to_fp16=float16)
    return folder
