"""Convert ONNX, also with external data, to OpenVINO IR.

Tool, versions, document and limits: workers/stages/openvino_models.py. The file is read where it lies, so that models
over 2 GB never pass through one protobuf message. The tool does not know functions of the model's own: where it fails
on a model that has them, they are inlined in a copy (onnx 1.23.2).
Limits: control flow and custom domains have an IR form only where the tool finds a rule; it names those it has none
for.
"""

from __future__ import annotations

from farm.domain.errors import ConversionFailed, CustomOperator
from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.onnxruntime import SUFFIXES
from workers.stages.onnx_files import write_inlined
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, convert_file

INLINED = "inlined.onnx"


@stage(
    name="onnx-to-openvino-ir",
    version="2",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.ONNX,
    target=Format.OPENVINO_IR,
    tools=(*TOOLS, "onnx", "onnxruntime"),
    preload=(*PRELOAD, "onnxruntime"),
    timeout_s=TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin with the ONNX file's names and order.

    Raises:
        ConversionFailed: an operator without a conversion rule, named.
        NumericsBroken: the IR does not compute the model's function.
    """
    model = given.files["model"]
    file = entry_file(model, SUFFIXES)
    try:
        return convert_file(given, file, Format.ONNX)
    except (ConversionFailed, CustomOperator):
        inlined = write_inlined(model, given.work / INLINED)
        if inlined is None:
            raise
    named = "model" if model.is_dir() else f"model{file.suffix}"
    lines = (
        "from workers.stages.onnx_files import write_inlined",
        f"write_inlined(Path({named!r}), Path({INLINED!r}))",
    )
    return convert_file(given, inlined, Format.ONNX, lines=lines)
