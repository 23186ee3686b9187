"""Parts of well-known networks, rebuilt by their shapes, against what logs of compiler 16.0.384591198 say of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.edgetpu_models import FLOAT32, UINT8, Op, Tensor, bias, index, tflite, weights
from workers.edgetpu.predict import predict


@dataclass(frozen=True)
class Logged:
    """A chain of operators, with the types that the log leaves on the CPU.

    `steps` are (operator, its further operands, shape of its result); the log is at `source`.
    """

    name: str
    source: str
    start: Tensor
    steps: tuple[tuple[str, tuple[Tensor, ...], Tensor], ...]
    left: tuple[str, ...] = ()


def head(places: int) -> tuple[tuple[str, tuple[Tensor, ...], Tensor], ...]:
    """Rebuild the end of YOLOv5 with 80 classes: boxes of three anchors change places with the grid."""
    return (
        ("RESHAPE", (index(1, places, 3, 85),), Tensor((1, places, 3, 85))),
        ("TRANSPOSE", (index(0, 2, 1, 3),), Tensor((1, 3, places, 85))),
    )


YOLOV5 = "jveitchmichaelis/edgetpu-yolo, README (yolov5s-int8-224); google-coral/edgetpu#512"
LOGS = (
    Logged("YOLOv5s, 224 pixels, stride 8", YOLOV5, Tensor((1, 28, 28, 255)), head(784), ("TRANSPOSE",)),
    Logged("YOLOv5s, 224 pixels, stride 16", YOLOV5, Tensor((1, 14, 14, 255)), head(196)),
    Logged("YOLOv5s, 224 pixels, stride 32", YOLOV5, Tensor((1, 7, 7, 255)), head(49)),
    Logged(
        "YOLOv8n, 192 pixels, distances as distributions",
        "jveitchmichaelis/edgetpu-yolo, yolov8n_full_integer_quant_edgetpu_192.log",
        Tensor((1, 756, 64)),
        (
            ("RESHAPE", (index(1, 756, 4, 16),), Tensor((1, 756, 4, 16))),
            ("TRANSPOSE", (index(0, 2, 1, 3),), Tensor((1, 4, 756, 16))),
            ("SOFTMAX", (), Tensor((1, 4, 756, 16))),
            ("CONV_2D", (weights(1, 1, 1, 16), bias(1)), Tensor((1, 4, 756, 1))),
        ),
    ),
    Logged(
        "EfficientDet-Lite0, 320 pixels, one level and the end",
        "google-coral/edgetpu#560",
        Tensor((1, 5, 5, 64), UINT8),
        (
            ("QUANTIZE", (), Tensor((1, 5, 5, 64))),
            ("RESIZE_NEAREST_NEIGHBOR", (index(10, 10),), Tensor((1, 10, 10, 64))),
            ("RESHAPE", (index(1, 100, 64),), Tensor((1, 100, 64))),
            ("LOGISTIC", (), Tensor((1, 100, 64))),
            ("DEQUANTIZE", (), Tensor((1, 100, 64), FLOAT32)),
            ("TFLite_Detection_PostProcess", (), Tensor((1, 25, 4), FLOAT32)),
        ),
        ("DEQUANTIZE", "TFLite_Detection_PostProcess"),
    ),
    Logged(
        "RetinaNet on MobileNet, the way down",
        "mathieugalle/edgetpu-compiler-pad-fail, not_padded_edgetpucompiler_output.log",
        Tensor((1, 20, 20, 256)),
        (
            ("RESIZE_NEAREST_NEIGHBOR", (index(40, 40),), Tensor((1, 40, 40, 256))),
            ("PAD", (index(0, 0, 0, 1, 0, 1, 0, 0),), Tensor((1, 41, 41, 256))),
            ("RELU", (), Tensor((1, 41, 41, 256))),
            ("RESHAPE", (index(1, 1681, 256),), Tensor((1, 1681, 256))),
        ),
    ),
    Logged(
        "a mean over 256 x 128 places",
        "google-coral/edgetpu#461",
        Tensor((1, 256, 128, 4)),
        (("RELU", (), Tensor((1, 256, 128, 4))), ("MEAN", (index(1, 2),), Tensor((1, 4)))),
        ("MEAN",),
    ),
    Logged(
        "a classifier of MNIST with float ends",
        "a public log of mnist4.tflite by compiler 15.0; the shapes are the usual ones",
        Tensor((1, 28, 28, 1), FLOAT32),
        (
            ("QUANTIZE", (), Tensor((1, 28, 28, 1))),
            ("CONV_2D", (weights(32, 3, 3, 1), bias(32)), Tensor((1, 26, 26, 32))),
            ("MAX_POOL_2D", (), Tensor((1, 13, 13, 32))),
            ("RESHAPE", (index(1, 5408),), Tensor((1, 5408))),
            ("FULLY_CONNECTED", (weights(10, 5408), bias(10)), Tensor((1, 10))),
            ("SOFTMAX", (), Tensor((1, 10))),
            ("DEQUANTIZE", (), Tensor((1, 10), FLOAT32)),
        ),
        ("QUANTIZE", "DEQUANTIZE"),
    ),
)


@pytest.mark.parametrize("logged", LOGS, ids=[each.name for each in LOGS])
def test_what_a_log_leaves_on_the_cpu_is_predicted(logged: Logged) -> None:
    tensors, operators, last = [logged.start], [], 0
    for kind, further, result in logged.steps:
        operands = tuple(range(len(tensors), len(tensors) + len(further)))
        tensors += [*further, result]
        operators.append(Op(kind, (last, *operands), (len(tensors) - 1,)))
        last = len(tensors) - 1

    assert tuple(each.type for each in predict(tflite(tensors, operators)).cpu_operators) == logged.left, logged.source
