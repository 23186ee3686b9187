"""Export TorchScript to ONNX with torch's TorchScript-based exporter.

Tool: torch.onnx.export(dynamo=False), opset 17; torch 2.13.0 (its last exporter that takes a ScriptModule).
Document: https://docs.pytorch.org/docs/stable/onnx_torchscript.html
Limits: every axis is fixed; control flow that depends on data becomes If and Loop nodes; the tool is in maintenance.
"""

from __future__ import annotations

from typing import Any

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.torchscript import load_module
from workers.stages.samples import seeded_probe
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.training_mode import refuse_training_module
from workers.stages.transforms import given_contract, proven

OPSET = 17


@stage(
    name="torchscript-to-onnx",
    version="1",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCHSCRIPT,
    target=Format.ONNX,
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
    import torch

    contract = given_contract(given)
    inputs = tuple(binding.artifact for binding in contract.inputs)
    module = load_module(given.files["model"])
    refuse_training_module(module)
    path = given.work / "model.onnx"
    names: dict[str, Any] = {
        "input_names": [spec.name for spec in inputs],
        "output_names": [binding.artifact.name for binding in contract.outputs],
    }
    arguments = tuple(torch.from_numpy(array) for array in seeded_probe(inputs).values())
    with tool_call("torch"):
        torch.onnx.export(module, arguments, path, dynamo=False, opset_version=OPSET, **names)
    zeros = ", ".join(f"torch.zeros({spec.static_shape}, dtype=torch.{spec.dtype})" for spec in inputs)
    return proven(
        given,
        path,
        source=Format.TORCHSCRIPT,
        target=Format.ONNX,
        facts={"opset": OPSET},
        reproduce=python_command(
            "import torch",
            "module = torch.jit.load('model.pt').eval()",
            f"torch.onnx.export(module, ({zeros},), 'model.onnx', dynamo=False, opset_version={OPSET}, **{names!r})",
        ),
    )
