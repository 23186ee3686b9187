"""Convert one model for one target as a first script would: `python naive_script.py MODEL TARGET CALIBRATION FOLDER`.

It is the comparison of `batch.py`, on purpose without the farm's care: the tools' defaults, no second route, one fresh
process per cell. It does check that its file loads, runs and comes near the source, as any script should, and exits
with an error when not. TARGET is ort-int8, openvino-int8 or tflite-float32.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
LEAST_SQNR_DB = {"ort-int8": 5.0, "openvino-int8": 5.0, "tflite-float32": 30.0}
"""Under this, what was written is not the model."""


def main(source: Path, target: str, calibration: Path, folder: Path) -> None:
    (samples,) = np.load(calibration).values()
    expected = run_source(source, samples[:1])
    made = {"ort-int8": ort_int8, "openvino-int8": openvino_int8, "tflite-float32": tflite_float32}[target](
        source, samples, folder
    )
    sqnr_db = min(max(closeness(one, other) for other in made) for one in expected)
    if not sqnr_db >= LEAST_SQNR_DB[target]:
        sys.exit(f"{source.name} for {target}: {sqnr_db:.1f} dB against the source")


def closeness(expected: Array, actual: Array) -> float:
    """Return the SQNR in dB; minus infinity for another number of elements or values that are not finite."""
    if expected.size != actual.size or not np.isfinite(actual).all():
        return -np.inf
    noise = float(((expected.ravel() - actual.ravel()) ** 2).sum())
    return 200.0 if noise == 0 else float(10 * np.log10((expected**2).sum() / noise))


def run_source(source: Path, sample: Array) -> list[Array]:
    if source.suffix == ".onnx":
        return run_onnx(source, sample)
    if source.suffix == ".pt2":
        import torch

        answer = torch.export.load(source).module()(torch.from_numpy(sample))
        return [answer.detach().numpy()]
    import tensorflow as tf

    signature = tf.saved_model.load(str(source)).signatures["serving_default"]
    return [value.numpy() for value in signature(tf.constant(sample)).values()]


def to_onnx(source: Path, sample: Array, folder: Path) -> Path:
    if source.suffix == ".onnx":
        return source
    made = folder / "model.onnx"
    if source.suffix == ".pt2":
        import torch

        torch.onnx.export(torch.export.load(source), (torch.from_numpy(sample),), dynamo=True).save(made)
    else:
        import subprocess

        convert = ["-m", "tf2onnx.convert", "--saved-model", str(source), "--output", str(made)]
        subprocess.run([sys.executable, *convert], check=True)
    return made


def run_onnx(path: Path, sample: Array) -> list[Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: sample}))


class Reader:
    """What ONNX Runtime's calibration asks for sample after sample."""

    def __init__(self, name: str, samples: Array) -> None:
        self.name, self.left = name, iter(samples)

    def get_next(self) -> dict[str, Array] | None:
        sample = next(self.left, None)
        return None if sample is None else {self.name: sample[None]}


def ort_int8(source: Path, samples: Array, folder: Path) -> list[Array]:
    import onnxruntime
    from onnxruntime.quantization import quantize_static

    model = to_onnx(source, samples[:1], folder)
    name = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    quantize_static(model, folder / "int8.onnx", Reader(name, samples), per_channel=True)
    return run_onnx(folder / "int8.onnx", samples[:1])


def openvino_int8(source: Path, samples: Array, folder: Path) -> list[Array]:
    import nncf
    import openvino

    if source.suffix == ".pt2":
        import torch

        converted = openvino.convert_model(torch.export.load(source), example_input=torch.from_numpy(samples[:1]))
    else:
        converted = openvino.convert_model(source)
    converted.reshape(samples[:1].shape)
    quantized = nncf.quantize(converted, nncf.Dataset([sample[None] for sample in samples]))
    openvino.save_model(quantized, folder / "int8.xml")
    answer = openvino.Core().compile_model(folder / "int8.xml", "CPU")(samples[:1])
    return list(answer.values())


def tflite_float32(source: Path, samples: Array, folder: Path) -> list[Array]:
    made = folder / "model.tflite"
    if source.suffix == ".onnx":
        import onnx2tf

        private = shutil.copy(source, folder / "private.onnx")
        shape = ",".join(map(str, samples[:1].shape))
        onnx2tf.convert(
            input_onnx_file_path=private, output_folder_path=str(folder), overwrite_input_shape=[f"x:{shape}"]
        )
        shutil.move(folder / "private_float32.tflite", made)
    elif source.suffix == ".pt2":
        import litert_torch
        import torch

        litert_torch.convert(torch.export.load(source).module(), (torch.from_numpy(samples[:1]),)).export(str(made))
    else:
        import tensorflow as tf

        made.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(source)).convert())
    return run_tflite(made, samples[:1])


def run_tflite(path: Path, sample: Array) -> list[Array]:
    """Run with the sample in the file's own layout; answers come back with channels first where it moved them last."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    given = interpreter.get_input_details()[0]
    if list(given["shape"]) != list(sample.shape):
        sample = sample.transpose(0, 2, 3, 1) if sample.ndim == 4 else sample
        interpreter.resize_tensor_input(given["index"], sample.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], sample)
    interpreter.invoke()
    answers = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
    return answers + [answer.transpose(0, 3, 1, 2) for answer in answers if answer.ndim == 4]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
