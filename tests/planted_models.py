"""Write a small model, and copies of it with one fault each: `python planted_models.py FOLDER`, where onnx is.

Its pictures are square, so that no shape tells a swapped axis. Prints what the prover of contracts says of the two
copies with a wrong transpose.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from farm.domain.artifact import Contract
from farm.domain.errors import NumericsBroken
from workers.runtimes.onnxruntime import OnnxSession
from workers.stages.contracts import prove_float

SIZE, SAMPLES = 16, 24


def layers() -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Three convolutions with their activations, and a head."""
    rng = np.random.default_rng(5)
    nodes, weights, last, channels = [], [], "image", 3
    for at, width in enumerate((8, 8, 16)):
        values = rng.standard_normal((width, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"weight{at}"))
        nodes.append(helper.make_node("Conv", [last, f"weight{at}"], [f"conv{at}"], f"conv{at}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv{at}"], [f"act{at}"], f"act{at}"))
        last, channels = f"act{at}", width
    head = (rng.standard_normal((16 * SIZE * SIZE, 10)) * 0.05).astype(np.float32)
    weights.append(numpy_helper.from_array(head, "head"))
    nodes.append(helper.make_node("Flatten", [last], ["flat"], "flat"))
    nodes.append(helper.make_node("MatMul", ["flat", "head"], ["scores"], "head"))
    return nodes, weights


def model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])
    graph = helper.make_graph(nodes, "net", [image], [scores], initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def good() -> onnx.ModelProto:
    return model(*layers())


def one_constant() -> onnx.ModelProto:
    """What a pass makes that folds one value of one constant wrongly."""
    nodes, weights = layers()
    values = numpy_helper.to_array(weights[1]).copy()
    values[3, 2, 1, 1] += 1.0
    weights[1] = numpy_helper.from_array(values, "weight1")
    return model(nodes, weights)


def transposed(before: str) -> onnx.ModelProto:
    """Height and width swapped in front of one node."""
    nodes, weights = layers()
    at = next(at for at, node in enumerate(nodes) if node.name == before)
    swap = helper.make_node("Transpose", [nodes[at].input[0]], ["swapped"], "swap", perm=[0, 1, 3, 2])
    nodes[at].input[0] = "swapped"
    return model([*nodes[:at], swap, *nodes[at:]], weights)


def dropping() -> onnx.ModelProto:
    """A dropout that drops, as an export in training mode leaves it."""
    nodes, weights = layers()
    flag = numpy_helper.from_array(np.array(True), "training")
    ratio = numpy_helper.from_array(np.array(0.5, np.float32), "ratio")
    nodes[-1].input[0] = "dropped"
    drop = helper.make_node("Dropout", ["flat", "ratio", "training"], ["dropped"], "drop")
    return model([*nodes[:-1], drop, nodes[-1]], [*weights, flag, ratio])


def norming() -> onnx.ModelProto:
    """A batch norm that follows the batch."""
    nodes, weights = layers()
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    names = ("gain", "bias", "mean", "variance")
    weights += [numpy_helper.from_array(v, n) for n, v in zip(names, (ones, zeros, zeros, ones), strict=True)]
    nodes[1].input[0] = "normed"
    outputs = ["normed", "running_mean", "running_variance"]
    norm = helper.make_node("BatchNormalization", ["conv0", *names], outputs, "norm", training_mode=1)
    return model([nodes[0], norm, *nodes[1:]], weights)


def proven(folder: Path, name: str) -> dict[str, object]:
    """Say what the prover makes of a copy: the changes it declares, or why it is refused."""
    source, artifact = (OnnxSession(folder / f"{each}.onnx") for each in ("good", name))
    try:
        found = prove_float(Contract.identity(source.inputs, source.outputs), source, artifact)
    except NumericsBroken as error:
        return {"refused": error.message}
    return {"changes": list(found.contract.changes), "sqnr_db": found.sqnr_db}


def main(folder: Path) -> None:
    made = {
        "good": good(),
        "one_constant": one_constant(),
        "swapped_input": transposed("conv0"),
        "swapped_inside": transposed("conv1"),
        "dropping": dropping(),
        "norming": norming(),
    }
    for name, each in made.items():
        onnx.save(each, folder / f"{name}.onnx")
    pictures = np.random.default_rng(7).random((SAMPLES, 3, SIZE, SIZE)).astype(np.float32)
    np.savez(folder / "pictures.npz", image=pictures)
    np.savez(folder / "dark_pictures.npz", image=pictures * np.float32(0.05))
    print(json.dumps({name: proven(folder, name) for name in ("swapped_input", "swapped_inside")}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
