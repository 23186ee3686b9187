"""Convert SavedModels, Keras and TFLite models to ONNX with tf2onnx.

Tool: tf2onnx 1.17.0 (from_graph_def on the frozen function, from_tflite), opset 17; tensorflow-cpu 2.21.0.
Document: https://github.com/onnx/tensorflow-onnx
Limits: its from_keras fails on Keras 3 and its from_function takes captured constants for inputs, so functions are
frozen first. Every axis is fixed; layouts stay NHWC; quantized TFLite keeps its quantization as QDQ pairs.
"""

from __future__ import annotations

from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES
from workers.stages.convert.tensorflow_models import FixedFunction, load_function, load_lines, register
from workers.stages.convert.tensorflow_to_tflite import converter_errors
from workers.stages.model_sizes import INTO_FROZEN_GRAPH, INTO_ONE_ONNX_FILE
from workers.stages.onnx_files import rename_interface
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import interface, proven

OPSET = 17
PRELOAD = ("tensorflow", "keras", "tf2onnx", "tf2onnx.convert", "onnx", "onnxruntime")


def convert(given: StageInput, source: Format) -> StageOutput:
    """Write model.onnx with the source's names.

    Raises:
        ConversionFailed: an operator without an ONNX form.
        NumericsBroken: the file does not compute the model's function.
    """
    inputs, outputs = interface(given)
    function = load_function(source, given.files["model"], inputs, outputs)
    path = given.work / "model.onnx"
    write_onnx(function, [spec.name for spec in inputs], outputs, path)
    return proven(
        given,
        path,
        source=source,
        target=Format.ONNX,
        facts={"opset": OPSET},
        reproduce=python_command(
            *load_lines(source, inputs, outputs),
            "from workers.stages.convert.tensorflow_to_onnx import write_onnx",
            f"write_onnx(function, {[spec.name for spec in inputs]!r}, {outputs!r}, Path('model.onnx'))",
        ),
    )


def write_onnx(function: FixedFunction, inputs: list[str], outputs: list[str], path: Path) -> None:
    """Hand a function's graph to tf2onnx, and give the result the source's names.

    Raises:
        ConversionFailed: an operator without an ONNX form.
    """
    import onnx
    import tf2onnx

    named = {
        "input_names": [tensor.name for tensor in function.concrete.inputs],
        "output_names": [tensor.name for tensor in function.concrete.outputs],
    }
    with tool_call("tf2onnx", *converter_errors()):
        model, _ = tf2onnx.convert.from_graph_def(function.concrete.graph.as_graph_def(), opset=OPSET, **named)
    rename_interface(
        model,
        dict(zip(named["input_names"], inputs, strict=True)),
        dict(zip(named["output_names"], outputs, strict=True)),
    )
    onnx.save(model, path)


register(convert, to="onnx", target=Format.ONNX, tools=("tf2onnx", "onnx"), preload=PRELOAD, check=INTO_FROZEN_GRAPH)


@stage(
    name="tflite-to-onnx",
    version="2",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.TFLITE,
    target=Format.ONNX,
    check=INTO_ONE_ONNX_FILE,
    tools=("tf2onnx", "tensorflow-cpu", "onnx"),
    preload=PRELOAD,
)
def convert_tflite(given: StageInput) -> StageOutput:
    """Write model.onnx with the TFLite file's names.

    Raises:
        ConversionFailed: an operator without an ONNX form.
        NumericsBroken: the file does not compute the model's function.
    """
    import tf2onnx

    path = given.work / "model.onnx"
    model = entry_file(given.files["model"], SUFFIXES)
    with tool_call("tf2onnx", *converter_errors()):
        tf2onnx.convert.from_tflite(str(model), opset=OPSET, output_path=str(path))
    return proven(
        given,
        path,
        source=Format.TFLITE,
        target=Format.ONNX,
        facts={"opset": OPSET},
        reproduce=f"python -m tf2onnx.convert --tflite model.tflite --opset {OPSET} --output model.onnx",
    )
