"""Store an OpenVINO IR's weights in float16.

Tool: openvino.save_model with compress_to_fp16, openvino 2026.4.1.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-preparation/conversion-parameters.html
Formula: w16 = float16(w); the plugin turns it back into float32 when it loads the model.
Limits: half the size, no speed: activations and arithmetic stay float32. Constants that float16 cannot hold stay
float32.
"""

from __future__ import annotations

from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.openvino import SUFFIXES
from workers.stages.openvino_models import PRELOAD, converter_errors, write
from workers.stages.quantize.selection import Candidate, Judge, choose, seeded_samples
from workers.stages.tool_calls import python_command, tool_call


@stage(
    name="quantize-openvino-ir-float16",
    version="1",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    recipe="float16",
    tools=("openvino",),
    preload=PRELOAD,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin; facts["sqnr_db"] is the worst output's against the float IR, on seeded inputs.

    Raises:
        ConversionFailed: the file does not load, run and stay finite.
    """
    model = entry_file(given.files["model"], SUFFIXES)

    def make(path: Path) -> None:
        import openvino

        with tool_call("openvino", *converter_errors()):
            write(openvino.Core().read_model(model), path, float16=True)

    judge = Judge(given, Format.OPENVINO_IR, seeded_samples(given).selection)
    return choose(judge, [Candidate("float16 weights", make)]).output(
        python_command(
            "import openvino",
            "model = openvino.Core().read_model('model.xml')",
            "openvino.save_model(model, 'float16.xml', compress_to_fp16=True)",
        )
    )
