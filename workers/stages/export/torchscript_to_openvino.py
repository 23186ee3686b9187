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
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, fix_axes, name_by_place, openvino_call, save
from workers.stages.samples import seeded_probe
from workers.stages.tool_calls import python_command
from workers.stages.training_mode import refuse_training_module
from workers.stages.transforms import interface, proven


@stage(
    name="torchscript-to-openvino-ir",
    version="1",
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
    import openvino
    import torch

    inputs, outputs = interface(given)
    module = load_module(given.files["model"])
    refuse_training_module(module)
    arguments = tuple(torch.from_numpy(array) for array in seeded_probe(inputs).values())
    with openvino_call():
        model = openvino.convert_model(module, example_input=arguments)
        name_by_place(model, [spec.name for spec in inputs], outputs)
        fix_axes(model, inputs)
        path = save(model, given.work)
    zeros = ", ".join(f"torch.zeros({spec.static_shape}, dtype=torch.{spec.dtype})" for spec in inputs)
    return proven(
        given,
        path,
        source=Format.TORCHSCRIPT,
        target=Format.OPENVINO_IR,
        reproduce=python_command(
            "import openvino, torch",
            "module = torch.jit.load('model.pt').eval()",
            f"model = openvino.convert_model(module, example_input=({zeros},))",
            "openvino.save_model(model, 'openvino/model.xml', compress_to_fp16=False)",
        ),
    )
