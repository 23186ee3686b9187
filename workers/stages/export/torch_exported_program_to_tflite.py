"""Convert a torch exported program to float TFLite with litert-torch.

Tool, versions, document and limits: workers/stages/litert_torch_call.py. The layout stays NCHW; every axis is fixed;
a program in training mode is refused, since the tool would convert it without a word.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.litert_torch_call import PRELOAD, TOOLS, convert_module
from workers.stages.tool_calls import python_command
from workers.stages.transforms import given_contract, proven


@stage(
    name="torch-exported-program-to-tflite",
    version="1",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCH_EXPORTED_PROGRAM,
    target=Format.TFLITE,
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
    program = load_fixed_program(given.files["model"], given.options.input_specs)
    path = given.work / "model.tflite"
    convert_module(program.module(), tuple(b.artifact for b in given_contract(given).inputs), path)
    return proven(
        given,
        path,
        source=Format.TORCH_EXPORTED_PROGRAM,
        target=Format.TFLITE,
        inputs_as="args",
        reproduce=python_command(
            "import litert_torch, torch",
            *load_lines(given.options.input_specs),
            "litert_torch.convert(program.module(), program.example_inputs[0]).export('model.tflite')",
        ),
    )
