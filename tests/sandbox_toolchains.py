"""Real work of each toolchain, small, as the sandbox's tests run it in the child."""

from __future__ import annotations

import json
import os
from pathlib import Path


def torch_exports_and_trains(work: Path) -> None:
    import torch

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4))
    given = torch.randn(2, 3, 8, 8)
    model(given).sum().backward()
    program = torch.export.export(model.eval(), (given,))
    torch.export.save(program, work / "model.pt2")
    again = torch.export.load(work / "model.pt2").module()(given)
    _say(work, float((again - model(given)).detach().abs().max()))


def torch_refuses_a_hostile_pickle(work: Path) -> None:
    import pickle

    import torch

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("touch " + str(work / "pwned"),)

    torch.save(Hostile(), work / "evil.pt")
    try:
        torch.load(work / "evil.pt", weights_only=False)
    except pickle.UnpicklingError:
        _say(work, 0.0)


def keras_becomes_int8_tflite(work: Path) -> None:
    import keras
    import numpy as np
    import tensorflow as tf

    model = keras.Sequential([keras.layers.Input((8, 8, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.random.rand(1, 8, 8, 1).astype(np.float32)] for _ in range(8))
    (work / "model.tflite").write_bytes(converter.convert())
    interpreter = tf.lite.Interpreter(str(work / "model.tflite"))
    interpreter.allocate_tensors()
    interpreter.invoke()
    _say(work, float(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).size))


def litert_torch_converts(work: Path) -> None:
    import litert_torch
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
    model[0].bias.data.fill_(4.0)  # Beyond the sum of eight weights, so that not every output is cut to zero.
    given = (torch.randn(1, 8),)
    litert_torch.convert(model, given).export(str(work / "model.tflite"))
    _say(work, float((work / "model.tflite").stat().st_size))


def onnxruntime_runs(work: Path) -> None:
    import numpy as np
    import onnxruntime

    model = (work / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": np.full((1, 4), 2.0, np.float32)})
    _say(work, float(out.sum()))


def litert_runs(work: Path) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(work / "model.tflite"), num_threads=2)
    interpreter.allocate_tensors()
    for given in interpreter.get_input_details():
        interpreter.set_tensor(given["index"], np.ones(given["shape"], given["dtype"]))
    interpreter.invoke()
    _say(work, float(np.abs(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])).sum()))


def openvino_compiles(work: Path) -> None:
    import numpy as np
    import openvino
    from openvino import opset13

    x = opset13.parameter([1, 4], np.float32)
    model = openvino.Model([opset13.relu(x)], [x])
    (out,) = openvino.compile_model(model, "CPU")([np.full((1, 4), 2.0, np.float32)]).values()
    _say(work, float(out.sum()))


def _say(work: Path, value: float) -> None:
    (work / "value.json").write_text(json.dumps(value))
