"""Write two convolutional networks, the second with ten percent more layers: python measured_models.py FOLDER."""

import sys
from pathlib import Path

LAYERS = {"base.onnx": 20, "tenth_more.onnx": 22}


def main(folder: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    for name, layers in LAYERS.items():
        rng, nodes, stored, at = np.random.default_rng(0), [], [], "x"
        for index in range(layers):
            kernel = (rng.standard_normal((32, 32, 3, 3)) * (2 / 288) ** 0.5).astype("float32")
            stored.append(numpy_helper.from_array(kernel, f"kernel_{index}"))
            nodes += [
                helper.make_node("Conv", [at, f"kernel_{index}"], [f"conv_{index}"], pads=[1, 1, 1, 1]),
                helper.make_node("Relu", [f"conv_{index}"], [f"relu_{index}"]),
            ]
            at = f"relu_{index}"
        first, last = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 32, 24, 24]) for n in ("x", at))
        graph = helper.make_graph(nodes, "layers", [first], [last], initializer=stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save_model(model, str(folder / name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
