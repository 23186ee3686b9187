"""Compute what a graph's structure makes known ahead: shapes of shapes, so that a cut finds constants, no new inputs.

Tool: onnx.reference of onnx 1.23.2, one operator at a time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from workers.stages.minimize.candidate import has_data
from workers.stages.minimize.structure import MOST_INTEGERS
from workers.stages.tool_calls import FOREIGN

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_UNLIKE = frozenset({"If", "Loop", "Scan", "Constant", "Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"})
"""Operators that are not computed here: with bodies of their own, or with another result every time."""


def known_values(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return small tensors that follow from shapes and structural constants alone; no weight has a part in them."""
    from onnx import numpy_helper

    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if has_data(tensor)}
    shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    given = set(values)
    for node in graph.node:
        found = _result(node, values, shapes, model)
        values |= {} if found is None else {node.output[0]: found}
    return [numpy_helper.from_array(array, name) for name, array in values.items() if name not in given]


def _result(
    node: onnx.NodeProto,
    values: dict[str, NDArray[Any]],
    shapes: dict[str, tuple[int, ...] | None],
    model: onnx.ModelProto,
) -> NDArray[Any] | None:
    import numpy as np
    from onnx import helper

    if node.domain not in ("", "ai.onnx") or len(node.output) != 1 or node.op_type in _UNLIKE:
        return None
    if node.op_type == "Shape" and (shape := shapes.get(node.input[0])) is not None:
        limits = {attribute.name: int(helper.get_attribute_value(attribute)) for attribute in node.attribute}
        return np.asarray(shape[limits.get("start", 0) : limits.get("end")], np.int64)
    size = shapes.get(node.output[0])
    inputs = [name for name in node.input if name]
    if size is None or math.prod(size) > MOST_INTEGERS or not all(name in values for name in inputs):
        return None
    return _computed(node, {name: values[name] for name in inputs}, model)


def _computed(node: onnx.NodeProto, feeds: dict[str, NDArray[Any]], model: onnx.ModelProto) -> NDArray[Any] | None:
    from onnx import TypeProto, helper
    from onnx.reference import ReferenceEvaluator

    inputs = [helper.make_value_info(name, TypeProto()) for name in feeds]
    outputs = [helper.make_value_info(node.output[0], TypeProto())]
    alone = helper.make_model(
        helper.make_graph([node], "one", inputs, outputs), opset_imports=model.opset_import, ir_version=model.ir_version
    )
    try:
        result: NDArray[Any] = ReferenceEvaluator(alone).run(None, feeds)[0]
    except FOREIGN:
        return None
    return result if result.dtype.kind in "iub" else None


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    return tuple(int(dim.dim_value) for dim in tensor.shape.dim)
