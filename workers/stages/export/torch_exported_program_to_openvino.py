"""Convert a torch exported program to OpenVINO IR.

Tool, versions, document and limits: workers/stages/openvino_models.py; torch 2.13.0 reads the program.
Limits: the layout stays NCHW; a program in training mode is refused, since the tool would convert it without a word.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, fix_axes, name_by_place, openvino_call, save
from workers.stages.tool_calls import python_command
from workers.stages.transforms import interface, proven


@stage(
    name="torch-exported-program-to-openvino-ir",
    version="1",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCH_EXPORTED_PROGRAM,
    target=Format.OPENVINO_IR,
    tools=(*TOOLS, "torch"),
    preload=("torch", "torch.export", *PRELOAD),
    timeout_s=TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin with the program's names.

    Raises:
        BadRequest: the program was exported in training mode.
        ConversionFailed: an operator without a conversion rule, named.
        NumericsBroken: the IR does not compute the program's function.
    """
    import openvino

    inputs, outputs = interface(given)
    program = load_fixed_program(given.files["model"], given.options.input_specs)
    with openvino_call():
        model = openvino.convert_model(program)
        name_by_place(model, [spec.name for spec in inputs], outputs)
        fix_axes(model, inputs)
        path = save(model, given.work)
    return proven(
        given,
        path,
        source=Format.TORCH_EXPORTED_PROGRAM,
        target=Format.OPENVINO_IR,
        reproduce=python_command(
            "import openvino, torch",
            *load_lines(given.options.input_specs),
            "openvino.save_model(openvino.convert_model(program), 'openvino/model.xml', compress_to_fp16=False)",
        ),
    )
