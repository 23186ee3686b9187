"""Export TorchScript to ONNX with torch's TorchScript-based exporter.

Tool: torch.onnx.export(dynamo=False), opset 17; torch 2.13.0 (its last exporter that takes a ScriptModule).
Document: https://docs.pytorch.org/docs/stable/onnx_torchscript.html
Limits: every axis is fixed; control flow that depends on data becomes If and Loop nodes; the tool is in maintenance.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.torchscript import load_module
from workers.stages.model_sizes import INTO_ONE_ONNX_FILE
from workers.stages.samples import example_tensors
from workers.stages.tool_calls import python_command, python_specs, tool_call
from workers.stages.training_mode import refuse_training_module
from workers.stages.transforms import given_contract, proven, ranges_of

if TYPE_CHECKING:
    import torch

OPSET = 17


@stage(
    name="torchscript-to-onnx",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCHSCRIPT,
    target=Format.ONNX,
    check=INTO_ONE_ONNX_FILE,
    tools=("torch", "onnx"),
    preload=("torch", "torch.onnx", "onnx", "onnxruntime"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx with the source's names; the module is put into evaluation mode first.

    Raises:
        BadRequest: it was traced in training mode, which eval() cannot undo.
        ConversionFailed: an operator without an ONNX form.
        NumericsBroken: the file does not compute the module's function.
    """
    contract = given_contract(given)
    inputs = tuple(binding.artifact for binding in contract.inputs)
    module = load_module(given.files["model"])
    refuse_training_module(module)
    path = given.work / "model.onnx"
    names: dict[str, Any] = {
        "input_names": [spec.name for spec in inputs],
        "output_names": [binding.artifact.name for binding in contract.outputs],
    }
    ranges = ranges_of(given)
    with tool_call("torch"):
        write(module, example_tensors(inputs, ranges), path, names)
    return proven(
        given,
        path,
        source=Format.TORCHSCRIPT,
        target=Format.ONNX,
        facts={"opset": OPSET},
        reproduce=python_command(
            "from pathlib import Path",
            "from farm.domain.facts import TensorSpec",
            "from workers.runtimes.torchscript import load_module",
            "from workers.stages.export.torchscript_to_onnx import write",
            "from workers.stages.samples import example_tensors",
            f"example = example_tensors({python_specs(inputs)}, {ranges!r})",
            f"write(load_module(Path('model.pt')), example, Path('model.onnx'), {names!r})",
        ),
    )


def write(module: Any, example: tuple[torch.Tensor, ...], path: Path, names: dict[str, Any]) -> None:
    """Write the ONNX form of a module that takes inputs like `example`; `names` are those of inputs and outputs."""
    import torch

    torch.onnx.export(module, example, path, dynamo=False, opset_version=OPSET, **names)
