"""Convert float and quantized TFLite to OpenVINO IR.

Tool, versions, document and limits: workers/stages/openvino_models.py. Layouts stay NHWC.
Limits: integer inputs and outputs of a quantized file stay integers; a custom operator has no rule.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, convert_file


@stage(
    name="tflite-to-openvino-ir",
    version="2",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.TFLITE,
    target=Format.OPENVINO_IR,
    tools=(*TOOLS, "ai-edge-litert"),
    preload=(*PRELOAD, "ai_edge_litert.interpreter"),
    timeout_s=TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin with the TFLite file's names.

    Raises:
        ConversionFailed: an operator without a conversion rule, named.
        NumericsBroken: the IR does not compute the model's function.
    """
    return convert_file(given, entry_file(given.files["model"], SUFFIXES), Format.TFLITE)
