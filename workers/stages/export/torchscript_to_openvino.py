"""Convert TorchScript to OpenVINO IR.

Tool, versions, document and limits: workers/stages/openvino_models.py; torch 2.13.0 loads the module, which is put
into evaluation mode first.
Limits: the layout stays NCHW; control flow that depends on data becomes If and Loop; a module traced in training mode
is refused.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.torchscript import load_module
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, convert_torch, openvino_call, save
from workers.stages.samples import example_tensors
from workers.stages.tool_calls import python_command, python_specs
from workers.stages.training_mode import refuse_training_module
from workers.stages.transforms import interface, proven, ranges_of


@stage(
    name="torchscript-to-openvino-ir",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCHSCRIPT,
    target=Format.OPENVINO_IR,
    tools=(*TOOLS, "torch"),
    preload=("torch", *PRELOAD),
    timeout_s=TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin with the source's names.

    Raises:
        BadRequest: it was traced in training mode, which eval() cannot undo.
        ConversionFailed: an operator without a conversion rule, named.
        NumericsBroken: the IR does not compute the module's function.
    """
    inputs, outputs = interface(given)
    module = load_module(given.files["model"])
    refuse_training_module(module)
    ranges = ranges_of(given)
    with openvino_call():
        path = save(convert_torch(module, inputs, outputs, example_tensors(inputs, ranges)), given.work)
    return proven(
        given,
        path,
        source=Format.TORCHSCRIPT,
        target=Format.OPENVINO_IR,
        reproduce=python_command(
            "from pathlib import Path",
            "from farm.domain.facts import TensorSpec",
            "from workers.runtimes.torchscript import load_module",
            "from workers.stages.openvino_models import convert_torch, save",
            "from workers.stages.samples import example_tensors",
            f"inputs = {python_specs(inputs)}",
            f"example = example_tensors(inputs, {ranges!r})",
            f"save(convert_torch(load_module(Path('model.pt')), inputs, {outputs!r}, example), Path('.'))",
        ),
    )
