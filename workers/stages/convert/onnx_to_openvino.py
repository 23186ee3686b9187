"""Convert ONNX, also with external data, to OpenVINO IR.

Tool, versions, document and limits: workers/stages/openvino_models.py. The file is read where it lies, so that models
over 2 GB never pass through one protobuf message.
Limits: control flow and custom domains have an IR form only where the tool finds a rule; it names those it has none
for.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.onnxruntime import SUFFIXES
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, convert_file


@stage(
    name="onnx-to-openvino-ir",
    version="1",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.ONNX,
    target=Format.OPENVINO_IR,
    tools=(*TOOLS, "onnxruntime"),
    preload=(*PRELOAD, "onnxruntime"),
    timeout_s=TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin with the ONNX file's names and order.

    Raises:
        ConversionFailed: an operator without a conversion rule, named.
        NumericsBroken: the IR does not compute the model's function.
    """
    return convert_file(given, entry_file(given.files["model"], SUFFIXES), Format.ONNX)
