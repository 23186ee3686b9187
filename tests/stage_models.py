"""Write small models, good and bad, into a folder. Runs in the builder environment: python stage_models.py FOLDER."""

import io
import os
import pickle
import sys
import zipfile
from pathlib import Path

os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


NET = """
import torch

INPUTS = ["image:float32[batch,3,8,8]"]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout()
        self.head = torch.nn.Linear(4, 5)

    def forward(self, image):
        features = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        return self.head(self.drop(features)), features


def build():
    return Net()
"""
"""A file that builds a module."""


class Hostile:
    """A pickle that leaves a file behind when it is run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def cut(source: Path, target: Path, keep: float = 0.6) -> None:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * keep)])


def torch_models(folder: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.norm = torch.nn.BatchNorm2d(4)
            self.drop = torch.nn.Dropout()
            self.head = torch.nn.Linear(4, 5)

        def forward(self, image):
            features = torch.relu(self.norm(self.conv(image))).mean((2, 3))
            return self.head(self.drop(features)), features

    torch.manual_seed(0)
    net, example = Net().eval(), (torch.rand(2, 3, 8, 8),)
    (folder / "good_state").mkdir()
    torch.save(net.state_dict(), folder / "good_state" / "weights.pth")
    (folder / "good_state" / "build.py").write_text(NET)
    batch = {"image": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(net, example, dynamic_shapes=batch), folder / "good.pt2")
    torch.jit.trace(net, example).save(folder / "good.pt")
    torch.export.save(torch.export.export(net.train(), example), folder / "training.pt2")
    torch.jit.trace(net, example, check_trace=False).save(folder / "training.pt")
    (folder / "script_named.pt2").write_bytes((folder / "good.pt").read_bytes())
    torch.save(net.state_dict(), folder / "weights.pt")
    torch.save(torch.nn.Linear(2, 2), folder / "module.pt")
    (folder / "raw_pickle.pt").write_bytes(pickle.dumps(Hostile(folder / "PICKLE_RAN")))
    cut(folder / "good.pt2", folder / "cut.pt2")
    cut(folder / "good.pt", folder / "cut.pt")
    (folder / "empty.pt2").touch()
    hostile_program(folder)
    custom_torch(folder)


def hostile_program(folder: Path) -> None:
    import torch

    payload = io.BytesIO()
    torch.save(Hostile(folder / "PT2_RAN"), payload)
    with zipfile.ZipFile(folder / "good.pt2") as source, zipfile.ZipFile(folder / "hostile.pt2", "w") as target:
        for name in source.namelist():
            target.writestr(name, payload.getvalue() if "sample_inputs" in name else source.read(name))


def custom_torch(folder: Path) -> None:
    import torch

    @torch.library.custom_op("farmtest::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(torch.empty_like)

    class Custom(torch.nn.Module):
        def forward(self, x):
            return torch.ops.farmtest.twice(x)

    class Reader(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.from_file("/etc/passwd", False, 4).sum()

    class Rate(torch.nn.Module):
        def forward(self, x: torch.Tensor, rate: int) -> list[torch.Tensor]:
            return [x * rate, x]

    torch.export.save(torch.export.export(Custom(), (torch.ones(2),)), folder / "custom.pt2")
    torch.jit.script(Custom()).save(folder / "custom.pt")
    torch.jit.script(Reader()).save(folder / "reader.pt")
    torch.jit.script(Rate()).save(folder / "rate.pt")


def onnx_model(*, operator: str = "Relu", domain: str = "", ir_version: int = 8, opset: int = 17):
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype("float32"), "w")
    head = numpy_helper.from_array(rng.standard_normal((4, 5)).astype("float32"), "head")
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"]),
        helper.make_node(operator, ["c"], ["r"], domain=domain),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "head"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, None])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "tiny", [image], [scores], initializer=[weights, head])
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="test")


def onnx_models(folder: Path) -> None:
    import onnx

    onnx.save_model(onnx_model(), folder / "good.onnx")
    onnx.save_model(onnx_model(operator="Foo", domain="acme.ops"), folder / "custom.onnx")
    onnx.save_model(onnx_model(operator="NoSuchOperator"), folder / "unknown_operator.onnx")
    onnx.save_model(onnx_model(ir_version=99), folder / "newer.onnx")
    onnx.save_model(onnx_model(operator="\x1b[31m<b>Foo</b>", domain="../evil\x1b[2J"), folder / "ansi.onnx")
    onnx.save_model(onnx_model(operator="Log"), folder / "logarithm.onnx")
    cut(folder / "good.onnx", folder / "cut.onnx")
    ort_models(folder)
    (folder / "text.onnx").write_text("hello, this is no model")
    (folder / "empty.onnx").touch()
    for name, location in (
        ("external", "weights.bin"),
        ("missing", "weights.bin"),
        ("escaping", "../secret.bin"),
        ("absolute", "/etc/passwd"),
        ("linked", "weights.bin"),
    ):
        external_model(folder / f"{name}_onnx", location)
    (folder / "missing_onnx" / "weights.bin").unlink()
    (folder / "linked_onnx" / "weights.bin").unlink()
    (folder / "linked_onnx" / "weights.bin").symlink_to("/etc/passwd")
    (folder / "several_onnx").mkdir()
    for name in "ab":
        onnx.save_model(onnx_model(), folder / "several_onnx" / f"{name}.onnx")


def ort_models(folder: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "good.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(folder / "good.onnx"), options, providers=["CPUExecutionProvider"])
    cut(folder / "good.ort", folder / "cut.ort")
    (folder / "text.ort").write_text("hello, this is no model")
    (folder / "empty.ort").touch()


def external_model(folder: Path, location: str) -> None:
    import onnx

    folder.mkdir()
    onnx.save_model(
        onnx_model(), folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    if location != "weights.bin":
        model = onnx.load_model(folder / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        (folder / "model.onnx").write_bytes(model.SerializeToString())


def keras_models(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(image))
    outputs = [keras.layers.Dense(5, name="scores")(hidden), keras.layers.Dense(2, name="box")(hidden)]
    model = keras.Model(image, outputs)
    model.export(str(folder / "good_savedmodel"), verbose=False)
    model.save(folder / "good.keras")
    model.save(folder / "good.h5")
    model.save_weights(folder / "only.weights.h5")
    sequential = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="y")])
    sequential.save(folder / "sequential.keras")

    @keras.saving.register_keras_serializable("acme")
    class Plus(keras.layers.Layer):
        def call(self, x):
            return x + 1

    lambdas = keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image))
    custom = keras.Model(image, Plus()(image))
    for suffix in ("keras", "h5"):
        lambdas.save(folder / f"lambda.{suffix}")
        custom.save(folder / f"custom.{suffix}")
        cut(folder / f"good.{suffix}", folder / f"cut.{suffix}")


def saved_models(folder: Path) -> None:
    import shutil

    import tensorflow as tf

    signature = [tf.TensorSpec([None, 4], tf.float32, name="x")]

    def writes(x):
        tf.io.write_file(str(folder / "SAVEDMODEL_RAN"), "x")
        return {"y": x}

    def python(x):
        return {"y": tf.py_function(lambda value: value, [x], tf.float32)}

    for name, function in (("writes", writes), ("python", python)):
        module = tf.Module()
        module.call = tf.function(function, input_signature=signature)
        tf.saved_model.save(module, str(folder / f"{name}_savedmodel"), signatures=module.call.get_concrete_function())
    good = folder / "good_savedmodel"
    for name in ("no_variables", "cut_variables", "cut_graph"):
        shutil.copytree(good, folder / f"{name}_savedmodel")
    shutil.rmtree(folder / "no_variables_savedmodel" / "variables")
    os.truncate(folder / "cut_variables_savedmodel" / "variables" / "variables.data-00000-of-00001", 40)
    os.truncate(folder / "cut_graph_savedmodel" / "saved_model.pb", 300)


def tflite_models(folder: Path) -> None:
    import numpy as np
    import tensorflow as tf

    def converter():
        return tf.lite.TFLiteConverter.from_saved_model(str(folder / "good_savedmodel"))

    (folder / "good.tflite").write_bytes(converter().convert())
    rng = np.random.default_rng(0)
    integer = converter()
    integer.optimizations = [tf.lite.Optimize.DEFAULT]
    integer.representative_dataset = lambda: ([rng.random((1, 8, 8, 3), dtype=np.float32)] for _ in range(8))
    integer.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    integer.inference_input_type = integer.inference_output_type = tf.int8
    (folder / "int8.tflite").write_bytes(integer.convert())

    @tf.function(input_signature=[tf.TensorSpec([2, 2], tf.float32)])
    def inverse(x):
        return tf.linalg.inv(x)

    flex = tf.lite.TFLiteConverter.from_concrete_functions([inverse.get_concrete_function()])
    flex.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    (folder / "flex.tflite").write_bytes(flex.convert())
    cut(folder / "good.tflite", folder / "cut.tflite")
    (folder / "text.tflite").write_text("hello, this is no model")


def openvino_models(folder: Path) -> None:
    import shutil

    import openvino

    good = folder / "good_openvino"
    openvino.save_model(openvino.convert_model(folder / "good.onnx"), good / "model.xml", compress_to_fp16=False)
    graph, weights = (good / "model.xml").read_text(), (good / "model.bin").read_bytes()
    for name, xml, held in (
        ("no_weights", graph, None),
        ("short_weights", graph, weights[:100]),
        ("other_weights", graph, weights * 3),
        ("cut_graph", graph[:1500], weights),
        ("custom", graph.replace('type="Convolution" version="opset1"', 'type="Foo" version="extension"'), weights),
        ("newer", graph.replace('type="Convolution" version="opset1"', 'type="Foo" version="opset99"'), weights),
        ("no_network", "<html/>", None),
    ):
        bad = folder / f"{name}_openvino"
        bad.mkdir()
        (bad / "model.xml").write_text(xml)
        if held is not None:
            (bad / "model.bin").write_bytes(held)
    shutil.copytree(good, folder / "several_openvino")
    (folder / "several_openvino" / "other.xml").write_text(graph)


def hugging_face_models(folder: Path) -> None:
    from tests.hugging_face_models import hugging_face_model

    hugging_face_model(folder / "good_vit", "vit")


def main(folder: Path) -> None:
    for make in (
        torch_models,
        onnx_models,
        keras_models,
        saved_models,
        tflite_models,
        hugging_face_models,
        openvino_models,
    ):
        make(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
