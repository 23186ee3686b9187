"""The pinned reference model: the same small convolutional network for every runtime.

It is measured alternately with each artifact, so that a host whose speed drifts is noticed. make.py wrote the files;
they stay as they are, since every earlier measurement refers to them.
"""

from __future__ import annotations

from pathlib import Path

from farm.domain.facts import Format
from workers.runtimes import load_runtimes

FILES = {
    Format.ONNX: "reference.onnx",
    Format.TFLITE: "reference.tflite",
    Format.EDGETPU_TFLITE: "reference.tflite",
    Format.EXECUTORCH: "reference.pte",
    Format.TF_SAVEDMODEL: "reference_savedmodel",
    Format.OPENVINO_IR: "reference_openvino",
}
INTEGER = "reference_int8.tflite"
"""The same network in int8: what LiteRT computes with integers depends on the CPU's kernels."""


def reference_model(runtime: str) -> Path:
    """Return the file that a runtime executes.

    Raises:
        LookupError: no such runtime, or none of its formats is here.
    """
    for accepted in load_runtimes()[runtime].accepts:
        if accepted in FILES:
            return Path(__file__).with_name(FILES[accepted])
    raise LookupError(f"there is no reference model for runtime {runtime}")


def self_test_model(runtime: str) -> Path:
    """Return the file that a host tests itself with under a runtime: in integers where there is one.

    Raises:
        LookupError: no such runtime, or none of its formats is here.
    """
    integers = runtime == "litert"
    return Path(__file__).with_name(INTEGER) if integers else reference_model(runtime)
