"""Formats, tensors and what inspection finds in a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Format(StrEnum):
    """A node of the format graph."""

    TORCH_EXPORTED_PROGRAM = "torch-exported-program"
    TORCHSCRIPT = "torchscript"
    TORCH_STATE_DICT = "torch-state-dict"
    ONNX = "onnx"
    ORT = "ort"
    TF_SAVEDMODEL = "tf-savedmodel"
    KERAS = "keras"
    KERAS_H5 = "keras-h5"
    TFLITE = "tflite"
    EDGETPU_TFLITE = "edgetpu-tflite"
    OPENVINO_IR = "openvino-ir"
    EXECUTORCH = "executorch"
    HUGGING_FACE = "hugging-face"


Axis = int | str
"""A size, or the name of an open axis ("?" when the file gives it none)."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: dtype by its NumPy name, shape as declared; `shape` None means unknown rank."""

    name: str
    dtype: str
    shape: tuple[Axis, ...] | None
    scale: float | None = None
    zero_point: int | None = None

    @property
    def open_axes(self) -> tuple[int, ...]:
        return tuple(i for i, axis in enumerate(self.shape or ()) if not isinstance(axis, int))

    @property
    def static_shape(self) -> tuple[int, ...]:
        """Return the shape of a tensor whose axes all have a size.

        Raises:
            ValueError: an axis is open.
        """
        if self.shape is None or self.open_axes:
            raise ValueError(f"{self} has open axes")
        return tuple(axis for axis in self.shape if isinstance(axis, int))

    def with_shape(self, shape: tuple[Axis, ...]) -> TensorSpec:
        return replace(self, shape=shape)

    def __str__(self) -> str:
        shape = "?" if self.shape is None else ",".join(str(axis) for axis in self.shape)
        return f"{self.name}:{self.dtype}[{shape}]"


INTEGER_OPERATORS = frozenset(
    {
        *("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
        *("QUANTIZE", "FakeQuantize"),
    }
)
"""What ONNX, TFLite and OpenVINO call the operators of quantized models."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What inspection found.

    `operators` counts by type; `parameters` are elements, not bytes. `extra` holds what only one format
    knows (ir_version, custom operator domains, signature name …).
    """

    format: Format
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int] = field(default_factory=dict)
    parameters: int | None = None
    size_bytes: int | None = None
    opset: int | None = None
    producer: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_quantized(self) -> bool:
        """Tell whether it computes in integers: a tensor has a scale, or an operator makes integers of floats."""
        scaled = any(spec.scale is not None for spec in (*self.inputs, *self.outputs))
        return scaled or not INTEGER_OPERATORS.isdisjoint(self.operators)
