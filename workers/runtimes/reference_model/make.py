"""Write the pinned reference model as ONNX, TFLite and OpenVINO IR, from the same seeded weights.

Run in the builder environment: `python -m workers.runtimes.reference_model.make [FOLDER]`. Made with onnx 1.23.2,
tensorflow-cpu 2.21.0 and openvino 2026.4.1: three convolutions, a mean and a dense layer, 227 million multiplications,
24,000 parameters.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format
from workers.runtimes.reference_model import FILES

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 20_261_124
SIZE = 384
CLASSES = 10
CHANNELS = (3, 16, 32, 64)
STRIDES = (2, 2, 1)
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class Weights:
    """Convolutions as (out, in, 3, 3) and the dense layer as (in, classes), all float32."""

    convolutions: tuple[NDArray[Any], ...]
    dense: NDArray[Any]


def draw_weights() -> Weights:
    import numpy as np

    rng = np.random.default_rng(SEED)
    shapes = [(out, into, 3, 3) for into, out in pairwise(CHANNELS)]
    convolutions = tuple(_scaled(rng.standard_normal(shape), shape[1] * 9) for shape in shapes)
    return Weights(convolutions, _scaled(rng.standard_normal((CHANNELS[-1], CLASSES)), CHANNELS[-1]))


def _scaled(values: NDArray[Any], fan_in: int) -> NDArray[Any]:
    """Keep the variance of activations near 1 through ReLU."""
    scaled: NDArray[Any] = (values * (2 / fan_in) ** 0.5).astype("float32")
    return scaled


def write_onnx(weights: Weights, path: Path) -> None:
    """Write (1, 3, 384, 384) -> (1, 10), opset 17."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, stored, at = [], [numpy_helper.from_array(weights.dense, "dense")], "image"
    for index, (kernel, stride) in enumerate(zip(weights.convolutions, STRIDES, strict=True)):
        stored.append(numpy_helper.from_array(kernel, f"kernel_{index}"))
        pads = [0, 0, 1, 1] if stride == 2 else [1, 1, 1, 1]
        convolved = helper.make_node(
            "Conv", [at, f"kernel_{index}"], [f"conv_{index}"], strides=[stride, stride], pads=pads
        )
        nodes += [convolved, helper.make_node("Relu", [f"conv_{index}"], [f"relu_{index}"])]
        at = f"relu_{index}"
    nodes += [
        helper.make_node("ReduceMean", [at], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "dense"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS[0], SIZE, SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, CLASSES])
    graph = helper.make_graph(nodes, "reference", [image], [scores], initializer=stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def write_tflite(weights: Weights, path: Path) -> None:
    """Write (1, 384, 384, 3) -> (1, 10), channels last."""
    import tensorflow as tf

    def forward(image: Any) -> dict[str, Any]:
        at = image
        for kernel, stride in zip(weights.convolutions, STRIDES, strict=True):
            at = tf.nn.relu(tf.nn.conv2d(at, kernel.transpose(2, 3, 1, 0), stride, "SAME"))
        return {"scores": tf.linalg.matmul(tf.reduce_mean(at, axis=[1, 2]), weights.dense)}

    image = tf.TensorSpec([1, SIZE, SIZE, CHANNELS[0]], tf.float32, name="image")
    function = tf.function(forward, input_signature=[image]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    path.write_bytes(converter.convert())


def write_openvino(source: Path, folder: Path) -> None:
    """Write the ONNX form as model.xml and model.bin."""
    import openvino

    openvino.save_model(openvino.convert_model(source), folder / "model.xml", compress_to_fp16=False)


def main(folder: Path) -> None:
    weights = draw_weights()
    write_onnx(weights, folder / FILES[Format.ONNX])
    write_tflite(weights, folder / FILES[Format.TFLITE])
    write_openvino(folder / FILES[Format.ONNX], folder / FILES[Format.OPENVINO_IR])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
