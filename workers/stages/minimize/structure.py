"""Which constants are structure, so that they keep their values: shapes, axes, indices, zero points and their like.

Everything else counts as weights. The rule is by role: an operator's schema takes 32- and 64-bit integers only there,
or the table names the slot; what such a value is computed from by shape arithmetic has the same role. Only small
tensors are structure: 64 integers, 8 floats.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MOST_INTEGERS, MOST_FLOATS = 64, 8
_INDEX_TYPES = {"tensor(int32)", "tensor(int64)", "tensor(bool)"}
_SLOTS = {
    "Clip": {1, 2},
    "DequantizeLinear": {2},
    "Dropout": {1, 2},
    "GRU": {4},
    "LSTM": {4},
    "OneHot": {1},
    "Pad": {2},
    "Pow": {1},
    "QLinearConv": {2, 5, 7},
    "QLinearMatMul": {2, 5, 7},
    "ConvInteger": {2, 3},
    "MatMulInteger": {2, 3},
    "QuantizeLinear": {2},
    "RNN": {4},
    "Range": {0, 1, 2},
    "Resize": {1, 2},
    "Upsample": {1},
}
"""Slots that also, or only, take other types than integers."""
_ARITHMETIC = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "Cast",
        "CastLike",
        "Ceil",
        "Concat",
        "ConstantOfShape",
        "Div",
        "Equal",
        "Expand",
        "Floor",
        "Gather",
        "Greater",
        "Identity",
        "Less",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Range",
        "ReduceProd",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Sub",
        "Tile",
        "Unsqueeze",
        "Where",
    }
)
"""Operators that shapes are computed with."""


def structural_names(model: onnx.ModelProto) -> set[str]:
    """Name every tensor whose value steers the graph instead of flowing through it."""
    versions = {entry.domain: int(entry.version) for entry in model.opset_import}
    found: set[str] = set()
    for node in reversed(model.graph.node):
        computes = node.op_type in _ARITHMETIC and found.intersection(node.output)
        slots = _index_slots(node.op_type, node.domain, versions.get(node.domain, 1)) | _SLOTS.get(node.op_type, set())
        found |= {name for at, name in enumerate(node.input) if name and (computes or at in slots)}
    return found


def is_small(tensor: onnx.TensorProto) -> bool:
    """Tell whether a tensor is small enough to be structure."""
    from onnx import helper

    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type).kind
    size: int = math.prod(tensor.dims)
    return size <= (MOST_INTEGERS if kind in "iub" else MOST_FLOATS if kind == "f" else 0)


def is_index(tensor: onnx.TensorProto) -> bool:
    """Tell whether a tensor may keep its value where no role is known: a scalar, or a few wide integers."""
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    size: int = math.prod(tensor.dims)
    wide = dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize > 2)
    return size <= (MOST_INTEGERS if wide else 1)


@cache
def _index_slots(operator: str, domain: str, version: int) -> set[int]:
    """List the inputs for which the operator's schema takes integers of 64 bits, and no float."""
    from onnx import defs

    if domain not in ("", "ai.onnx") or not defs.has(operator, version, domain=""):
        return set()
    slots = enumerate(defs.get_schema(operator, version, "").inputs)
    return {at for at, slot in slots if "tensor(int64)" in slot.types and set(slot.types) <= _INDEX_TYPES}
