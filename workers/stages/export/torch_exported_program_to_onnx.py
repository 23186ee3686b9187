"""Export a torch exported program to ONNX with torch's dynamo-based exporter.

Tool: torch.onnx.export(dynamo=True), opset 20; torch 2.13.0, onnxscript 0.7.2, onnx 1.23.2.
Document: https://docs.pytorch.org/docs/stable/onnx_export.html
Limits: every axis is fixed; data-dependent control flow has no ONNX form here; a program in training mode is refused.
Weights of more than 256 MiB are written beside the model, as a folder: a protobuf holds 2 GiB at the most, and is in
memory three times while it is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages import memory
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract, proven

if TYPE_CHECKING:
    import torch

OPSET = 20
EXTERNAL_OVER_BYTES = 256 << 20


@stage(
    name="torch-exported-program-to-onnx",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCH_EXPORTED_PROGRAM,
    target=Format.ONNX,
    tools=("torch", "onnxscript", "onnx"),
    preload=("torch", "torch.onnx", "torch.export", "onnxscript", "onnxruntime"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx with the source's names.

    Raises:
        BadRequest: the program was exported in training mode.
        NumericsBroken: the ONNX file does not compute the program's function.
    """
    contract = given_contract(given)
    program = load_fixed_program(given.files["model"], given.options.input_specs, given.options.ranges)
    external = weights_bytes(program) > EXTERNAL_OVER_BYTES
    path = given.work / "model" if external else given.work / "model.onnx"
    names: dict[str, Any] = {
        "input_names": [binding.artifact.name for binding in contract.inputs],
        "output_names": [binding.artifact.name for binding in contract.outputs],
    }
    file = path / "model.onnx" if external else path
    write(program, file, names, external=external)
    empty(program)
    memory.give_back()
    return proven(
        given,
        path,
        source=Format.TORCH_EXPORTED_PROGRAM,
        target=Format.ONNX,
        facts={"opset": OPSET},
        reproduce=python_command(
            *load_lines(given.options.input_specs, given.options.ranges),
            "from workers.stages.export.torch_exported_program_to_onnx import write",
            f"write(program, Path({str(file.relative_to(given.work))!r}), {names!r}, external={external})",
        ),
    )


def write(program: torch.export.ExportedProgram, file: Path, names: dict[str, Any], *, external: bool) -> None:
    """Write `file`, its weights beside it where they are to be external; `names` are those of inputs and outputs."""
    import torch

    file.parent.mkdir(exist_ok=True)
    with tool_call("torch"):
        torch.onnx.export(program, (), file, dynamo=True, opset_version=OPSET, external_data=external, **names)


def empty(program: torch.export.ExportedProgram) -> None:
    """Free a program's weights: onnxscript's pattern matchers hold on to the graph that they saw last."""
    for tensor in program.state_dict.values():
        tensor.data = tensor.data.new_empty(0)


def weights_bytes(program: torch.export.ExportedProgram) -> int:
    tensors = (*program.state_dict.values(), *program.constants.values())
    return sum(int(t.numel()) * int(t.element_size()) for t in tensors if hasattr(t, "element_size"))
