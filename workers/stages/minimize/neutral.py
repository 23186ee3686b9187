"""Write a graph again without a word of its author: names are numbers, texts and learned attributes are gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from workers.stages.minimize.random_tensors import random_tensor
from workers.stages.minimize.structure import MOST_FLOATS, MOST_INTEGERS, is_index

if TYPE_CHECKING:
    import onnx

STANDARD_DOMAINS = ("", "ai.onnx")
LONGEST_WORD = 32
"""Characters of a string attribute that is kept: modes and equations are short."""


class Neutral:
    """A neutral copy of a model whose weights were stripped already.

    Attributes:
        names: every name the model gave to a node or a tensor.
    """

    def __init__(self, model: onnx.ModelProto, seed: int) -> None:
        import numpy as np

        self._source = model
        self._rng = np.random.default_rng(seed)
        self._short: dict[str, str] = {"": ""}
        self._made = self._copy()

    def model(self) -> onnx.ModelProto:
        return self._made

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in self._short if name)

    def _copy(self) -> onnx.ModelProto:
        from onnx import helper

        graph = self._graph(self._source.graph, "skeleton")
        opsets = [helper.make_opsetid(entry.domain, entry.version) for entry in self._source.opset_import]
        made: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=self._source.ir_version)
        return made

    def _graph(self, source: onnx.GraphProto, name: str) -> onnx.GraphProto:
        from onnx import helper

        inputs = self._values(source.input)
        nodes = [self._node(node) for node in source.node]
        graph: onnx.GraphProto = helper.make_graph(
            nodes,
            name,
            inputs,
            self._values(source.output),
            initializer=[self._tensor(tensor) for tensor in source.initializer],
            value_info=self._values(source.value_info),
        )
        return graph

    def _name(self, name: str) -> str:
        return self._short.setdefault(name, f"t{len(self._short) - 1}")

    def _tensor(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        tensor.name = self._name(tensor.name)
        tensor.ClearField("doc_string")
        del tensor.metadata_props[:]
        return tensor

    def _values(self, values: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
        """Copy tensors' types; sequences and optional values stay unknown, so that no cut goes through them."""
        return [self._value(value) for value in values if value.type.HasField("tensor_type")]

    def _value(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        import onnx

        made = onnx.ValueInfoProto(name=self._name(value.name))
        made.type.CopyFrom(value.type)
        made.type.ClearField("denotation")
        for dim in made.type.tensor_type.shape.dim if made.type.tensor_type.HasField("shape") else ():
            dim.ClearField("denotation")
            dim.ClearField("dim_param")
        return made

    def _node(self, node: onnx.NodeProto) -> onnx.NodeProto:
        import onnx

        made = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=self._name(node.name))
        made.input.extend(map(self._name, node.input))
        made.output.extend(map(self._name, node.output))
        made.attribute.extend(self._attribute(node, attribute) for attribute in node.attribute)
        return made

    def _attribute(self, node: onnx.NodeProto, source: onnx.AttributeProto) -> onnx.AttributeProto:
        import onnx

        made = onnx.AttributeProto()
        made.CopyFrom(source)
        made.ClearField("doc_string")
        if made.HasField("g"):
            made.g.CopyFrom(self._body(source.g))
        for body, graph in zip(made.graphs, source.graphs, strict=True):
            body.CopyFrom(self._body(graph))
        if made.HasField("t"):
            self._redraw(made.t, keep=is_index(made.t))
        for tensor in made.tensors:
            self._redraw(tensor)
        for sparse in (*([made.sparse_tensor] if made.HasField("sparse_tensor") else ()), *made.sparse_tensors):
            self._redraw_sparse(sparse)
        if len(made.s) > LONGEST_WORD:
            made.s = b"s"
        if made.strings and made.name != "activations":
            made.strings[:] = [b"s%d" % at for at in range(len(made.strings))]
        if made.floats and (node.domain not in STANDARD_DOMAINS or len(made.floats) > MOST_FLOATS):
            made.floats[:] = self._rng.uniform(0.5, 1.5, len(made.floats)).tolist()
        if len(made.ints) > MOST_INTEGERS:
            made.ints[:] = self._rng.integers(0, 2, len(made.ints)).tolist()
        return made

    def _redraw(self, tensor: onnx.TensorProto, *, keep: bool = False) -> None:
        """Give an attribute's tensor values of its own, and no name; `keep` leaves values that the file holds."""
        if not keep or tensor.external_data:
            tensor.CopyFrom(random_tensor(tensor, self._rng))
        for said in ("name", "doc_string", "metadata_props"):
            tensor.ClearField(said)

    def _redraw_sparse(self, sparse: onnx.SparseTensorProto) -> None:
        """Draw the values of a sparse tensor; they move to its first places, since where they lay was learned too."""
        import numpy as np
        from onnx import numpy_helper

        self._redraw(sparse.values)
        places = np.arange(sparse.values.dims[0], dtype=np.int64)
        if len(sparse.indices.dims) == 2:
            places = np.stack(np.unravel_index(places, tuple(sparse.dims)), axis=1).astype(np.int64)
        sparse.indices.CopyFrom(numpy_helper.from_array(places))

    def _body(self, graph: onnx.GraphProto) -> onnx.GraphProto:
        """Copy a subgraph; its weights, which no cut would fill, are drawn at once."""
        made = self._graph(graph, "body")
        for tensor in made.initializer:
            if not is_index(tensor) or tensor.external_data:
                tensor.CopyFrom(random_tensor(tensor, self._rng))
        return made
