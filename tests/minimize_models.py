"""Write the ONNX models that the minimizer's tests fail on: `python minimize_models.py FOLDER`, where onnx is.

Each is a long graph of ordinary layers around a few nodes that a real toolchain refuses. NAME.json beside NAME.onnx
tells its interface, the number of its nodes, and the bytes of every weight.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(11)


class Graph:
    """A graph under construction: the last tensor flows on."""

    def __init__(self, name: str, shape: list[int]) -> None:
        self.name, self.shape = name, shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.structure: list[onnx.TensorProto] = []
        self.learned: list[bytes] = []
        self.last = "customer_picture"

    def weight(self, *shape: int, spread: float = 0.3) -> str:
        values = (RNG.standard_normal(shape) * spread).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, f"secret.layer{len(self.weights)}.weight"))
        return self.weights[-1].name

    def constant(self, values: list[int]) -> str:
        self.structure.append(numpy_helper.from_array(np.array(values, np.int64), f"plan{len(self.structure)}"))
        return self.structure[-1].name

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        out = f"/customer/block.{len(self.nodes)}/{operator}_output_0"
        node = helper.make_node(
            operator, [*inputs], [out], name=f"/customer/block.{len(self.nodes)}/{operator}", **attributes
        )
        node.doc_string = "written by the customer"
        node.metadata_props.add(key="stack", value="customer/model.py line 12")
        self.nodes.append(node)
        return out

    def then(self, operator: str, *more: str, **attributes: object) -> "Graph":
        self.last = self.node(operator, self.last, *more, **attributes)
        return self

    def convolutions(self, count: int) -> "Graph":
        """Add 4 nodes a time: convolution, scale, activation and a residual sum."""
        for _ in range(count):
            before = self.last
            self.then("Conv", self.weight(4, 4, 3, 3), pads=[1, 1, 1, 1]).then("Mul", self.weight(1, 4, 1, 1))
            self.then("Relu").then("Add", before)
        return self

    def save(self, folder: Path, shape: list[int]) -> None:
        picture = helper.make_tensor_value_info("customer_picture", TensorProto.FLOAT, self.shape)
        self.nodes[-1].output[0] = "customer_scores"
        scores = helper.make_tensor_value_info("customer_scores", TensorProto.FLOAT, shape)
        opsets = {"": 20} | {node.domain: 1 for node in self.nodes if node.domain}
        graph = helper.make_graph(
            self.nodes, "customer", [picture], [scores], initializer=self.weights + self.structure
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(*opset) for opset in opsets.items()],
            ir_version=10,
            doc_string="customer",
        )
        model.metadata_props.add(key="owner", value="customer")
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{self.name}.onnx")
        hexes = [numpy_helper.to_array(tensor).tobytes().hex() for tensor in self.weights]
        hexes += [learned.hex() for learned in self.learned]
        facts = {"inputs": [["customer_picture", self.shape]], "outputs": [["customer_scores", shape]]}
        (folder / f"{self.name}.json").write_text(json.dumps(facts | {"weights": hexes, "nodes": len(self.nodes)}))


def one_operator(folder: Path) -> None:
    """Det, deep in 101 nodes: onnx2tf writes a custom operator that no interpreter knows."""
    graph = Graph("one_operator", [1, 4, 8, 8]).convolutions(12)
    determinant = graph.node("Det", graph.last)
    shaped = graph.node("Reshape", determinant, graph.constant([1, 4, 1, 1]))
    graph.then("Mul", shaped).convolutions(12).then("Sigmoid").then("Reshape", graph.constant([1, 256]))
    graph.save(folder, [1, 256])


def two_nodes(folder: Path) -> None:
    """A sequence made and joined again: onnx2tf knows neither, and no cut goes through what is no tensor."""
    graph = Graph("two_nodes", [1, 4, 8, 8]).convolutions(10)
    graph.then("SplitToSequence", axis=1).then("ConcatFromSequence", axis=1).convolutions(14)
    graph.save(folder, [1, 4, 8, 8])


def no_kernel(folder: Path) -> None:
    """Erf of 64-bit floats, for which ONNX Runtime has no kernel, among shapes that are computed."""
    graph = Graph("no_kernel", [1, 4, 8, 8]).convolutions(6)
    wide = graph.node("Erf", graph.node("Cast", graph.last, to=TensorProto.DOUBLE))
    graph.last = graph.node("Cast", wide, to=TensorProto.FLOAT)
    batch = graph.node("Slice", graph.node("Shape", graph.last), graph.constant([0]), graph.constant([1]))
    rest = graph.constant([-1])
    graph.convolutions(16).then("Reshape", graph.node("Concat", batch, rest, axis=0))
    graph.then("MatMul", graph.weight(256, 10))
    graph.save(folder, [1, 10])


def attributes(folder: Path) -> None:
    """Weights in every kind of attribute that can hold them, of an operator that only its author has."""
    graph = Graph("attributes", [1, 4, 8, 8])
    arrays = [RNG.standard_normal(shape).astype(np.float32) for shape in ((16, 16), (8, 8), (40,), (40,), (32,))]
    whole = [numpy_helper.from_array(array, "secret") for array in arrays]
    integers = RNG.integers(0, 100, 500)
    places = np.sort(RNG.permutation(5000)[:40]).astype(np.int64)
    sparse = [
        helper.make_sparse_tensor(values, numpy_helper.from_array(index, "secret"), shape)
        for values, index, shape in (
            (whole[2], places, [5000]),
            (whole[3], np.stack(np.divmod(places, 100), axis=1), [50, 100]),
        )
    ]
    body = helper.make_graph([], "secret", [], [], initializer=[whole[4]])
    held = {"tensors": whole[:2], "graphs": [body], "sparse": sparse, "integers": integers.tolist()}
    graph.then("Learned", domain="com.example", **held)
    tagged = b"".join(b"\x40" + bytes([value]) for value in integers)
    graph.learned += [*(array.tobytes() for array in (*arrays, places)), tagged]
    graph.save(folder, [1, 4, 8, 8])


def external(folder: Path) -> None:
    """Write no_kernel again, its weights outside and then lost."""
    (folder / "external").mkdir()
    model, weights = onnx.load(folder / "no_kernel.onnx"), {"location": "weights.bin", "size_threshold": 64}
    onnx.save(model, folder / "external" / "model.onnx", save_as_external_data=True, **weights)
    (folder / "external" / "weights.bin").unlink()


if __name__ == "__main__":
    for make in (one_operator, two_nodes, no_kernel, attributes):
        make(Path(sys.argv[1]))
    external(Path(sys.argv[1]))
