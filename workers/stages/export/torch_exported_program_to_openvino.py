"""Convert a torch exported program to OpenVINO IR.

Tool, versions, document and limits: workers/stages/openvino_models.py; torch 2.13.0 reads the program.
Limits: the layout stays NCHW; a program in training mode is refused, since the tool would convert it without a word.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, convert_torch, openvino_call, save
from workers.stages.tool_calls import python_command, python_specs
from workers.stages.transforms import interface, proven


@stage(
    name="torch-exported-program-to-openvino-ir",
    version="2",
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
    inputs, outputs = interface(given)
    program = load_fixed_program(given.files["model"], given.options.input_specs, given.options.ranges)
    with openvino_call():
        path = save(convert_torch(program, inputs, outputs), given.work)
    return proven(
        given,
        path,
        source=Format.TORCH_EXPORTED_PROGRAM,
        target=Format.OPENVINO_IR,
        reproduce=python_command(
            *load_lines(given.options.input_specs, given.options.ranges),
            "from workers.stages.openvino_models import convert_torch, save",
            f"save(convert_torch(program, {python_specs(inputs)}, {outputs!r}), Path('.'))",
        ),
    )
