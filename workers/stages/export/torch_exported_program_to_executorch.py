"""Lower a torch exported program to an ExecuTorch program for XNNPACK.

Tool, versions, document and limits: workers/stages/executorch_call.py. A program in training mode is refused.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.executorch_call import PRELOAD, TOOLS, write_program
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.tool_calls import python_command
from workers.stages.transforms import proven


@stage(
    name="torch-exported-program-to-executorch",
    version="2",
    kind=Kind.EXPORT,
    environment="executorch",
    source=Format.TORCH_EXPORTED_PROGRAM,
    target=Format.EXECUTORCH,
    tools=TOOLS,
    preload=PRELOAD,
    spawns=True,
)
def run(given: StageInput) -> StageOutput:
    """Write model.pte.

    Facts tell how many operators XNNPACK got and how many stayed with portable kernels.

    Raises:
        BadRequest: the program was exported in training mode.
        ConversionFailed: an operator without an ExecuTorch kernel.
        NumericsBroken: the file does not compute the program's function.
    """
    program = load_fixed_program(given.files["model"], given.options.input_specs, given.options.ranges)
    path = given.work / "model.pte"
    facts = write_program(program, path)
    return proven(
        given,
        path,
        source=Format.TORCH_EXPORTED_PROGRAM,
        target=Format.EXECUTORCH,
        facts=facts,
        inputs_as="input",
        reproduce=python_command(
            *load_lines(given.options.input_specs, given.options.ranges),
            "from workers.stages.executorch_call import write_program",
            "write_program(program, Path('model.pte'))",
        ),
    )
