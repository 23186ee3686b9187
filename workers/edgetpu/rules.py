"""Whether the Edge TPU compiler maps one operator, looked at alone.

A rule returns None, or what of the operator is outside the documented limits.
Source: Coral documentation, "TensorFlow models on the Edge TPU", supported operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from workers.edgetpu.limits import (
    DEFAULT_MIN_RUNTIME_VERSION,
    MAX_MEAN_WINDOW,
    MAX_RESIZE_FACTOR,
    MAX_RESIZED_SIDE,
    MAX_SOFTMAX_ELEMENTS,
    MAX_TRANSPOSED_ELEMENTS,
    MEAN_DEPTH_MULTIPLE,
    MIN_RUNTIME_VERSION,
    Status,
)
from workers.edgetpu.model import DataType, Model, Operator, Tensor

QUANTIZED = (DataType.INT8, DataType.UINT8)
Rule = Callable[[Model, Operator], str | None]
Layout = Literal["b", "B", "i"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an operator stays on the CPU: the compiler's status and, where known, the limit behind it."""

    status: Status
    detail: str | None = None

    def __str__(self) -> str:
        return self.status.value if self.detail is None else f"{self.status.value}: {self.detail}"


def refusal(model: Model, operator: Operator, *, runtime: int = DEFAULT_MIN_RUNTIME_VERSION) -> Refusal | None:
    """Return why the compiler leaves this operator on the CPU whatever surrounds it, None when it is supported."""
    data = _data(model, operator)
    if operator.type == "QUANTIZE" and any(tensor.data_type == DataType.FLOAT32 for tensor in data):
        return Refusal(Status.LIMITATION, "quantization of float values stays on the CPU")
    wrong = next((tensor for tensor in data if tensor.data_type not in QUANTIZED), None)
    if wrong is not None:
        return Refusal(Status.DATA_TYPE, f"{wrong.name or 'a tensor'} is {wrong.type_name}, not int8 or uint8")
    since = MIN_RUNTIME_VERSION.get(operator.type)
    if since is None:
        return Refusal(Status.UNSUPPORTED)
    if since > runtime:
        return Refusal(Status.UNSUPPORTED, f"it needs Edge TPU runtime {since}, and {runtime} is asked for")
    deep = next((each for each in data if not each.is_constant and any(axis > 1 for axis in each.shape[:-3])), None)
    if deep is not None:
        return Refusal(Status.RANK, f"{deep.name or 'a tensor'} has shape {list(deep.shape)}")
    limit = next(filter(None, (rule(model, operator) for rule in RULES.get(operator.type, ()))), None)
    return None if limit is None else Refusal(Status.LIMITATION, limit)


def _data(model: Model, operator: Operator) -> list[Tensor]:
    """Return the tensors that carry the operator's values: results, computed operands, and constants among values."""
    indices, weights = INDEX_OPERANDS.get(operator.type, ()), _WEIGHTS.get(operator.type)
    with_constants = operator.type in MIN_RUNTIME_VERSION and weights is None
    operands = [model.operand(operator, at) for at in range(len(operator.inputs)) if at not in indices]
    values = [each for each in operands if each is not None and not each.is_variable]
    kept = [each for each in values if with_constants or not each.is_constant]
    parameters = None if weights is None else model.operand(operator, weights)
    return [*kept, *([] if parameters is None else [parameters]), *model.outputs_of(operator)]


INDEX_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "ARG_MAX": (1,),
    "ARG_MIN": (1,),
    "BATCH_TO_SPACE_ND": (1, 2),
    "BROADCAST_TO": (1,),
    "FILL": (0,),
    "MIRROR_PAD": (1,),
    "ONE_HOT": (1,),
    "PADV2": (1,),
    "RANGE": (0, 1, 2),
    "REDUCE_ALL": (1,),
    "REDUCE_ANY": (1,),
    "REDUCE_PROD": (1,),
    "SPACE_TO_BATCH_ND": (1, 2),
    "SPLIT_V": (1, 2),
    "TOPK_V2": (1,),
    "TRANSPOSE_CONV": (0,),
    "RESHAPE": (1,),
    "MEAN": (1,),
    "SUM": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "PAD": (1,),
    "EXPAND_DIMS": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "SLICE": (1, 2),
    "SPLIT": (0,),
    "STRIDED_SLICE": (1, 2, 3),
    "TILE": (1,),
    "TRANSPOSE": (1,),
}
"""Operands that are shapes, axes or positions rather than values. The tensors they name must be constant."""

_WEIGHTS: Mapping[str, int] = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
}


def _no_activation(slot: int) -> Rule:
    def rule(model: Model, operator: Operator) -> str | None:
        return "a fused activation function" if operator.option(slot) else None

    return rule


def _equal_dilation(width_slot: int, height_slot: int) -> Rule:
    def rule(model: Model, operator: Operator) -> str | None:
        width, height = operator.option(width_slot, "i", 1), operator.option(height_slot, "i", 1)
        return None if width == height else f"dilation {height} x {width} differs between height and width"

    return rule


def _constant_parameters(model: Model, operator: Operator) -> str | None:
    """Demand constants for weights and bias, operands 1 and 2."""
    parameters = (model.operand(operator, at) for at in (1, 2))
    computed = next((each for each in parameters if each is not None and not each.is_constant), None)
    return None if computed is None else f"parameter {computed.name} is computed, not constant"


def _constant_weights(model: Model, operator: Operator) -> str | None:
    weights = model.operand(operator, 1)
    return None if weights is not None and weights.is_constant else "its weights are computed, not constant"


def _default_weights_format(model: Model, operator: Operator) -> str | None:
    return "a weights format other than the default" if operator.option(1) else None


def _flat_output(model: Model, operator: Operator) -> str | None:
    return next(map(_not_flat, model.outputs_of(operator)), None)


def _not_flat(tensor: Tensor) -> str | None:
    flat = all(axis == 1 for axis in tensor.shape[:-1])
    return None if flat else f"{tensor.name or 'a tensor'} has shape {list(tensor.shape)}, only one axis may exceed 1"


def _softmax_size(model: Model, operator: Operator) -> str | None:
    """Look at the axis that a softmax goes over, the innermost; how many of them there are does not count."""
    operand = model.operand(operator, 0)
    if operand is None or not operand.shape or operand.shape[-1] <= MAX_SOFTMAX_ELEMENTS:
        return None
    return f"{operand.shape[-1]} elements, and {MAX_SOFTMAX_ELEMENTS} is the most"


def _zero_constant(model: Model, operator: Operator) -> str | None:
    """Allow a constant only beside one other operand, and only if it is all zeros."""
    constants = [each for each in model.inputs_of(operator) if each.is_constant]
    if not constants or (len(operator.inputs) == 2 and model.is_zero(constants[0])):
        return None
    return "a constant is joined that is not zero, or to more than one operand"


def _axes(model: Model, operator: Operator, position: int = 1) -> tuple[tuple[int, ...], int]:
    """Return the axes that an operand names, counted from 0, and the rank they count in."""
    value, axes = model.operand(operator, 1 - position), model.operand(operator, position)
    rank = len(value.shape) if value is not None else 0
    named = model.constant_values(axes) if axes is not None else None
    return tuple(axis + rank if axis < 0 else axis for axis in named or ()), rank


def _is_batch(axis: int, rank: int) -> bool:
    return axis == 0 and rank > 3


def _not_over_batch(position: int) -> Rule:
    def rule(model: Model, operator: Operator) -> str | None:
        axes, rank = _axes(model, operator, position)
        return "it works over the batch axis" if any(_is_batch(axis, rank) for axis in axes) else None

    return rule


def _parts_the_batch(model: Model, operator: Operator) -> str | None:
    """Allow one part, which is the whole."""
    return _not_over_batch(0)(model, operator) if len(operator.outputs) > 1 else None


def _transposed_size(model: Model, operator: Operator) -> str | None:
    operand = model.operand(operator, 0)
    if operand is None or operand.elements <= MAX_TRANSPOSED_ELEMENTS:
        return None
    return f"{operand.elements} elements change places, and {MAX_TRANSPOSED_ELEMENTS} is the most"


def _depth_multiple(model: Model, operator: Operator) -> str | None:
    axes, rank = _axes(model, operator)
    operand = model.operand(operator, 0)
    if operand is None or not operand.shape or rank - 1 not in axes or operand.shape[-1] % MEAN_DEPTH_MULTIPLE == 0:
        return None
    return f"a mean over a depth of {operand.shape[-1]}, not a multiple of {MEAN_DEPTH_MULTIPLE}"


def _mean_window(model: Model, operator: Operator) -> str | None:
    axes, rank = _axes(model, operator)
    operand = model.operand(operator, 0)
    if operand is None:
        return None
    window = math.prod(operand.shape[axis] for axis in axes if 0 <= axis < rank - 1)
    return f"a mean over {window} places, and {MAX_MEAN_WINDOW} is the most" if window > MAX_MEAN_WINDOW else None


def _pad_no_batch(model: Model, operator: Operator) -> str | None:
    operand, amounts = model.operand(operator, 0), model.operand(operator, 1)
    values = model.constant_values(amounts) if amounts is not None else None
    over_batch = operand is not None and len(operand.shape) > 3 and any((values or ())[:2])
    return "it pads the batch axis" if over_batch else None


def _pack_no_batch(model: Model, operator: Operator) -> str | None:
    (output, *_) = (*model.outputs_of(operator), None)
    rank = len(output.shape) if output is not None else 0
    axis = operator.option(1, "i")
    return "it stacks along the batch axis" if _is_batch(axis + rank if axis < 0 else axis, rank) else None


def _prelu_slope(model: Model, operator: Operator) -> str | None:
    slope = model.operand(operator, 1)
    if slope is None or all(axis == 1 for axis in slope.shape[:-1]):
        return None
    return f"slopes of shape {list(slope.shape)}, only the innermost axis may exceed 1 (shared_axes=[1, 2])"


def _plain_strides(model: Model, operator: Operator) -> str | None:
    strides = model.operand(operator, 3)
    values = model.constant_values(strides) if strides is not None else None
    if values is None or any(stride != 1 for stride in values):
        return f"strides {list(values or ())}, only 1 is supported"
    masks = {"ellipsis_mask": operator.option(2, "i"), "new_axis_mask": operator.option(3, "i")}
    used = [name for name, value in masks.items() if value]
    return f"{' and '.join(used)} set" if used else None


def _resize_size(model: Model, operator: Operator) -> str | None:
    """Look at height and width, which come before the depth: large sizes and factors lose precision."""
    operand, (output, *_) = model.operand(operator, 0), (*model.outputs_of(operator), None)
    if operand is None or output is None:
        return None
    pairs = list(zip(operand.shape[-3:-1], output.shape[-3:-1], strict=False))
    identity = all(before == after for before, after in pairs)
    large = any(after > MAX_RESIZED_SIDE or after > MAX_RESIZE_FACTOR * before for before, after in pairs)
    if identity or not large:
        return None
    sizes = " to ".join("x".join(str(side) for side in sides) for sides in zip(*pairs, strict=True))
    return f"a resize from {sizes} loses precision"


RULES: Mapping[str, tuple[Rule, ...]] = {
    "AVERAGE_POOL_2D": (_no_activation(5),),
    "CONCATENATION": (_no_activation(1), _zero_constant),
    "CONV_2D": (_constant_parameters, _equal_dilation(4, 5)),
    "DEPTHWISE_CONV_2D": (_constant_parameters, _equal_dilation(5, 6)),
    "FULLY_CONNECTED": (_constant_parameters, _default_weights_format, _flat_output),
    "MAX_POOL_2D": (_no_activation(5),),
    "MEAN": (_not_over_batch(1), _depth_multiple, _mean_window),
    "PACK": (_pack_no_batch,),
    "PAD": (_pad_no_batch,),
    "PRELU": (_prelu_slope,),
    "REDUCE_MAX": (_not_over_batch(1),),
    "REDUCE_MIN": (_not_over_batch(1),),
    "RESIZE_BILINEAR": (_resize_size,),
    "RESIZE_NEAREST_NEIGHBOR": (_resize_size,),
    "SOFTMAX": (_softmax_size,),
    "SPLIT": (_parts_the_batch,),
    "STRIDED_SLICE": (_plain_strides,),
    "SUM": (_not_over_batch(1),),
    "TRANSPOSE": (_transposed_size,),
    "TRANSPOSE_CONV": (_constant_weights,),
}
"""The documented limits per operator, first one that is broken is told."""
