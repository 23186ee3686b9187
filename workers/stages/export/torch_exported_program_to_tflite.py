"""Convert a torch exported program to float TFLite with litert-torch.

Tool, versions, document and limits: workers/stages/litert_torch_call.py. The layout stays NCHW; every axis is fixed;
a program in training mode is refused, since the tool would convert it without a word.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.litert_torch_call import PRELOAD, TOOLS, convert_module
from workers.stages.model_sizes import INTO_TFLITE
from workers.stages.tool_calls import python_command, python_specs
from workers.stages.transforms import given_contract, proven, ranges_of


@stage(
    name="torch-exported-program-to-tflite",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCH_EXPORTED_PROGRAM,
    target=Format.TFLITE,
    check=INTO_TFLITE,
    tools=TOOLS,
    preload=PRELOAD,
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite.

    Raises:
        BadRequest: the program was exported in training mode.
        ConversionFailed: an operator without a lowering.
        NumericsBroken: the file does not compute the program's function.
    """
    program = load_fixed_program(given.files["model"], given.options.input_specs, given.options.ranges)
    path = given.work / "model.tflite"
    inputs = tuple(binding.artifact for binding in given_contract(given).inputs)
    convert_module(program.module(), inputs, path, ranges=ranges_of(given))
    return proven(
        given,
        path,
        source=Format.TORCH_EXPORTED_PROGRAM,
        target=Format.TFLITE,
        inputs_as="args",
        reproduce=python_command(
            *load_lines(given.options.input_specs, given.options.ranges),
            "from workers.stages.litert_torch_call import convert_module",
            f"convert_module(program.module(), {python_specs(inputs)}, Path('model.tflite'), "
            f"ranges={ranges_of(given)!r})",
        ),
    )
