"""Convert a torch exported program to a SavedModel through StableHLO.

Tools: litert-torch 0.10.0 (exported_program_to_mlir, tf_integration), torch 2.13.0, then those of
workers/stages/saved_models.py.
Document: https://github.com/google-ai-edge/litert-torch
Limits: the graph is one XlaCallModule operator, which TensorFlow from 2.14 on runs where XLA is built in; it holds no
TensorFlow layers to go on from, and is not to be fine-tuned. Every axis is fixed; the layout stays NCHW.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.saved_models import LOWER_PRELOAD, LOWER_TOOLS, save_module, signature_names
from workers.stages.tool_calls import python_command, python_specs
from workers.stages.transforms import interface, proven, ranges_of


@stage(
    name="torch-exported-program-to-tf-savedmodel",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCH_EXPORTED_PROGRAM,
    target=Format.TF_SAVEDMODEL,
    tools=LOWER_TOOLS,
    preload=LOWER_PRELOAD,
)
def run(given: StageInput) -> StageOutput:
    """Write a SavedModel whose signature has the program's names.

    Raises:
        BadRequest: the program was exported in training mode.
        ConversionFailed: an operator without a lowering.
        NumericsBroken: the SavedModel does not compute the program's function.
    """
    inputs, outputs = interface(given)
    program = load_fixed_program(given.files["model"], given.options.input_specs, given.options.ranges)
    folder = given.work / "model"
    save_module(program.module(), inputs, outputs, folder, ranges=ranges_of(given))
    return proven(
        given,
        folder,
        source=Format.TORCH_EXPORTED_PROGRAM,
        target=Format.TF_SAVEDMODEL,
        inputs_as=signature_names([spec.name for spec in inputs]),
        reproduce=python_command(
            *load_lines(given.options.input_specs, given.options.ranges),
            "from workers.stages.saved_models import save_module",
            f"save_module(program.module(), {python_specs(inputs)}, {outputs!r}, Path('model'), "
            f"ranges={ranges_of(given)!r})",
        ),
    )
