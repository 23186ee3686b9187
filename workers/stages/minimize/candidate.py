"""Make a model of some of a skeleton's nodes: cut tensors become inputs, weights are drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.facts import Axis, TensorSpec
from workers.stages.minimize.graphs import consumed, domains, number, size_bytes
from workers.stages.minimize.random_tensors import QUANTIZATION_SCALE, random_tensor

if TYPE_CHECKING:
    import onnx

MAX_BYTES = (2 << 30) - (16 << 20)
"""What one protobuf file may hold, but for some room."""
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Cut:
    """The inputs and outputs of a candidate."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def cut(skeleton: Path, part: tuple[int, ...], seed: int, path: Path) -> Cut | str:
    """Write the model of the nodes `part`; returns why not where that is impossible."""
    import onnx

    whole = onnx.load(skeleton)
    nodes = [whole.graph.node[index] for index in part]
    made = {name for node in nodes for name in node.output if name}
    given = sorted({name for node in nodes for name in consumed(node)} - made, key=number)
    constants = {tensor.name: tensor for tensor in whole.graph.initializer}
    types = {value.name: value for value in (*whole.graph.input, *whole.graph.value_info, *whole.graph.output)}
    inputs, outputs = [name for name in given if name not in constants], _outputs(whole.graph, nodes, set(part))
    if reason := _why_not(inputs, outputs, types):
        return reason
    initializers = _filled([constants[name] for name in given if name in constants], nodes, seed)
    if isinstance(initializers, str):
        return initializers
    graph = onnx.helper.make_graph(
        nodes, "repro", [types[n] for n in inputs], [types[n] for n in outputs], initializer=initializers
    )
    used = domains(nodes) | {"", "ai.onnx"}
    opsets = [entry for entry in whole.opset_import if entry.domain in used]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=whole.ir_version), path)
    return Cut(tuple(_spec(types[n]) for n in inputs), tuple(_spec(types[n]) for n in outputs))


def _outputs(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], part: set[int]) -> list[str]:
    """Name what the rest of the graph read of these nodes, and of each node that nobody here reads one output."""
    inside = {name for node in nodes for name in consumed(node)}
    final = {value.name for value in graph.output}
    read = final.union(*(consumed(node) for at, node in enumerate(graph.node) if at not in part))
    outputs: list[str] = []
    for node in nodes:
        names = [name for name in node.output if name]
        chosen = [name for name in names if name in final or (name in read and name not in inside)]
        if not chosen and not inside.intersection(names):
            chosen = names[:1]
        outputs += chosen
    return outputs


def _why_not(inputs: list[str], outputs: list[str], types: dict[str, onnx.ValueInfoProto]) -> str | None:
    for name in inputs:
        if name not in types or not _is_static(types[name]):
            return f"the shape of {name}, which would become an input, is unknown"
    for name in outputs:
        if name not in types:
            return f"the type of {name}, which would become an output, is unknown"
    return None


def _is_static(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _filled(declared: list[onnx.TensorProto], nodes: list[onnx.NodeProto], seed: int) -> list[onnx.TensorProto] | str:
    """Draw what the skeleton only declares; the same tensor gets the same values in every cut."""
    import numpy as np

    if sum(map(size_bytes, declared)) > MAX_BYTES:
        return f"its weights need more than the {MAX_BYTES >> 20} MiB that one file holds"
    scales = {node.input[1] for node in nodes if node.op_type in _QUANTIZERS and len(node.input) > 1}
    filled: list[onnx.TensorProto] = []
    for tensor in declared:
        rng = np.random.default_rng([seed, number(tensor.name)])
        within = QUANTIZATION_SCALE if tensor.name in scales else None
        drawn = tensor if has_data(tensor) else random_tensor(tensor, rng, within)
        filled.append(drawn)
    return filled


def has_data(tensor: onnx.TensorProto) -> bool:
    stored = (tensor.int32_data, tensor.int64_data, tensor.float_data, tensor.double_data, tensor.uint64_data)
    return bool(tensor.raw_data or tensor.string_data or any(map(len, stored)))


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    from onnx import helper

    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    name = "str" if dtype.kind == "O" else dtype.name
    if not tensor.HasField("shape"):
        return TensorSpec(value.name, name, None)
    axes: tuple[Axis, ...] = tuple(int(dim.dim_value) if dim.HasField("dim_value") else "?" for dim in tensor.shape.dim)
    return TensorSpec(value.name, name, axes)
