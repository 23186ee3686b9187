"""Convert SavedModels, Keras and TFLite models to ONNX with tf2onnx.

Tool: tf2onnx 1.17.0 (from_graph_def on the frozen function, from_tflite), opset 17; tensorflow-cpu 2.21.0.
Document: https://github.com/onnx/tensorflow-onnx
Limits: its from_keras fails on Keras 3 and its from_function takes captured constants for inputs, so functions are
frozen first. Every axis is fixed; layouts stay NHWC; quantized TFLite keeps its quantization as QDQ pairs.
"""

from __future__ import annotations

from pathlib import Path

from farm.domain.artifact import Contract
from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES
from workers.stages.convert.tensorflow_models import FixedFunction, load_function
from workers.stages.convert.tensorflow_to_tflite import converter_errors
from workers.stages.onnx_files import rename_interface
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract, proven

OPSET = 17
PRELOAD = ("tensorflow", "keras", "tf2onnx", "tf2onnx.convert", "onnx", "onnxruntime")


def convert(given: StageInput, source: Format) -> StageOutput:
    """Write model.onnx with the source's names.

    Raises:
        ConversionFailed: an operator without an ONNX form.
        NumericsBroken: the file does not compute the model's function.
    """
    contract = given_contract(given)
    function = load_function(source, given.files["model"], contract)
    path = given.work / "model.onnx"
    with tool_call("tf2onnx", *converter_errors()):
        write_onnx(function, contract, path)
    return proven(
        given,
        path,
        source=source,
        target=Format.ONNX,
        facts={"opset": OPSET},
        reproduce=python_command(
            "from pathlib import Path",
            "from farm.domain.artifact import Binding, Contract",
            "from farm.domain.facts import Format, TensorSpec",
            "from workers.stages.convert.tensorflow_models import load_function",
            "from workers.stages.convert.tensorflow_to_onnx import write_onnx",
            f"contract = {contract!r}",
            f"function = load_function(Format({str(source)!r}), Path('model'), contract)",
            "write_onnx(function, contract, Path('model.onnx'))",
        ),
    )


def write_onnx(function: FixedFunction, contract: Contract, path: Path) -> None:
    """Freeze a function, hand its graph to tf2onnx, and give the result the source's names."""
    import onnx
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(function.concrete)
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [tensor.name for tensor in frozen.outputs]
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(), input_names=inputs, output_names=outputs, opset=OPSET
    )
    rename_interface(
        model,
        dict(zip(inputs, (binding.artifact.name for binding in contract.inputs), strict=True)),
        dict(zip(outputs, (binding.artifact.name for binding in contract.outputs), strict=True)),
    )
    onnx.save(model, path)


@stage(
    name="savedmodel-to-onnx",
    version="1",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.TF_SAVEDMODEL,
    target=Format.ONNX,
    tools=("tf2onnx", "tensorflow-cpu", "onnx"),
    preload=PRELOAD,
)
def convert_saved_model(given: StageInput) -> StageOutput:
    return convert(given, Format.TF_SAVEDMODEL)


@stage(
    name="keras-to-onnx",
    version="1",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.KERAS,
    target=Format.ONNX,
    tools=("tf2onnx", "tensorflow-cpu", "keras", "onnx"),
    preload=PRELOAD,
)
def convert_keras(given: StageInput) -> StageOutput:
    return convert(given, Format.KERAS)


@stage(
    name="keras-h5-to-onnx",
    version="1",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.KERAS_H5,
    target=Format.ONNX,
    tools=("tf2onnx", "tensorflow-cpu", "keras", "h5py", "onnx"),
    preload=PRELOAD,
)
def convert_keras_h5(given: StageInput) -> StageOutput:
    return convert(given, Format.KERAS_H5)


@stage(
    name="tflite-to-onnx",
    version="1",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.TFLITE,
    target=Format.ONNX,
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
