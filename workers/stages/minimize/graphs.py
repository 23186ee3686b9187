"""Questions that skeleton and candidate both ask of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def consumed(node: onnx.NodeProto) -> set[str]:
    """Name every tensor a node reads, those its subgraphs take from around them included."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
        own |= {name for inner in graph.node for name in inner.output}
        names |= {name for inner in graph.node for name in consumed(inner)} - own
        names |= {value.name for value in graph.output} - own
    return names


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def domains(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the operator sets that nodes and their subgraphs use."""
    found: set[str] = set()
    for node in nodes:
        found.add("" if node.domain == "ai.onnx" else node.domain)
        found |= {name for graph in subgraphs(node) for name in domains(graph.node)}
    return found


def size_bytes(tensor: onnx.TensorProto) -> int:
    """Return what a tensor's elements need, whether it holds them or not."""
    from onnx import helper

    size: int = math.prod(tensor.dims)
    return size * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def number(name: str) -> int:
    """Return the number in a neutral name ("t12")."""
    return int(name[1:])
