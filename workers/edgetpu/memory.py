"""Predict the parameter memory of the mapped part: what stays on chip and what is streamed.

The compiler's layout is not documented. The figures here are read off files that it made: a fully-connected layer of
N x N takes N * N + 8 * N bytes; output channels are padded to 16, the channels of a depthwise layer to 64; a
convolution takes about 36 bytes more for each output channel. Logs of models that do not fit show a few KiB left, so
that the memory is filled to the end. A layer that is larger than all of it is streamed whole: a dense layer of 64 MiB
leaves 7.88 MiB unused, one of 3.4 MiB beside large activations 0.5 MiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workers.edgetpu.limits import (
    FULL_CACHE_BYTES,
    LARGEST_CACHE_BYTES,
    SMALLEST_CACHE_BYTES,
    SRAM_BYTES,
    STREAMED_DENSE_DEPTH,
)
from workers.edgetpu.model import Model, Operator

_OUTPUT_MULTIPLE, _DEPTHWISE_MULTIPLE = 16, 64
_BYTES_PER_OUTPUT, _CONVOLUTION_BYTES_PER_OUTPUT = 8, 36


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of parameters: cached on chip, still free for caching, and sent again for every inference."""

    cached_bytes: int
    remaining_bytes: int
    streamed_bytes: int


def predict_memory(model: Model, mapped: Sequence[Operator]) -> Memory:
    """Predict the memory that the mapped operators' parameters take."""
    streamed = [operator for operator in mapped if _is_streamed(model, operator)]
    needed = [_parameter_bytes(model, operator) for operator in mapped if operator not in streamed]
    room = _cache_bytes(model, mapped)
    if sum(needed) > room:
        room = min(room, FULL_CACHE_BYTES)
    cached = min(sum(each for each in needed if each <= room), room)
    always = sum(_parameter_bytes(model, operator) for operator in streamed)
    return Memory(cached, room - cached, sum(needed) - cached + always)


def _is_streamed(model: Model, operator: Operator) -> bool:
    weights = model.operand(operator, 1) if operator.type == "FULLY_CONNECTED" else None
    return weights is not None and weights.shape[-1:] >= (STREAMED_DENSE_DEPTH,)


def _parameter_bytes(model: Model, operator: Operator) -> int:
    weights = model.operand(operator, 1)
    shape = weights.shape if weights is not None else ()
    if operator.type in ("CONV_2D", "TRANSPOSE_CONV") and shape:
        return _padded(shape[0], _OUTPUT_MULTIPLE) * (math.prod(shape[1:]) + _CONVOLUTION_BYTES_PER_OUTPUT)
    if operator.type == "DEPTHWISE_CONV_2D" and shape:
        channels = shape[-1]
        return math.prod(shape[:-1]) * _padded(channels, _DEPTHWISE_MULTIPLE) + _BYTES_PER_OUTPUT * channels
    if operator.type == "FULLY_CONNECTED" and shape:
        return _padded(shape[0], _OUTPUT_MULTIPLE) * math.prod(shape[1:]) + _BYTES_PER_OUTPUT * shape[0]
    return _constant_bytes(model, operator)


def _constant_bytes(model: Model, operator: Operator) -> int:
    """Sum an operator's constants without those that only give shapes and axes (a few elements)."""
    values = (each for each in model.inputs_of(operator) if each.is_constant and each.elements > 16)
    return sum(each.constant_bytes for each in values)


def _padded(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def _cache_bytes(model: Model, mapped: Iterable[Operator]) -> int:
    """Return what the largest activation leaves for parameters; one that does not fit is processed in pieces."""
    largest = max((each.elements for operator in mapped for each in model.outputs_of(operator)), default=0)
    return max(SMALLEST_CACHE_BYTES, min(LARGEST_CACHE_BYTES, SRAM_BYTES - largest))
