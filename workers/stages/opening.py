"""Open an artifact with the runtime that will execute it, on one thread: the proof that a file is a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import ArtifactBroken
from farm.domain.facts import Format, TensorSpec

if TYPE_CHECKING:
    import numpy as np

Arrays = Mapping[str, "np.ndarray[Any, Any]"]
Call = Callable[[Arrays], dict[str, "np.ndarray[Any, Any]"]]

_ONNX_DTYPES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded artifact: its tensors in file order, and a call by tensor name."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    run: Call


def open_artifact(kind: Format, path: Path) -> Opened:
    """Load `path` as the runtime of its format does.

    Raises:
        ArtifactBroken: the runtime refuses the file.
    """
    return {Format.ONNX: open_onnx, Format.TFLITE: open_tflite}[kind](path)


def open_onnx(path: Path) -> Opened:
    """Create a CPU session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError) as exc:
        raise _broken(path, "onnxruntime", onnxruntime.__version__, exc) from exc
    outputs = tuple(_onnx_spec(value) for value in session.get_outputs())
    names = [spec.name for spec in outputs]

    def run(feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return Opened(tuple(_onnx_spec(value) for value in session.get_inputs()), outputs, run)


def open_tflite(path: Path) -> Opened:
    """Allocate the tensors of a LiteRT interpreter."""
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as exc:
        raise _broken(path, "ai-edge-litert", ai_edge_litert.__version__, exc) from exc
    index = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    details = interpreter.get_output_details()

    def run(feed: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        for name, array in feed.items():
            interpreter.set_tensor(index[name], array)
        interpreter.invoke()
        return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in details}

    return Opened(tuple(map(_tflite_spec, interpreter.get_input_details())), tuple(map(_tflite_spec, details)), run)


def _onnx_spec(value: Any) -> TensorSpec:
    dtype = value.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(axis if isinstance(axis, (int, str)) else "?" for axis in value.shape)
    return TensorSpec(value.name, _ONNX_DTYPES.get(dtype, dtype), shape)


def _tflite_spec(detail: Mapping[str, Any]) -> TensorSpec:
    import numpy as np

    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"]).name
    shape = tuple(int(axis) for axis in detail["shape"])
    return TensorSpec(detail["name"], dtype, shape, *((scale, zero_point) if scale else ()))


def _broken(path: Path, tool: str, version: str, cause: Exception) -> ArtifactBroken:
    return ArtifactBroken(
        f"{path.name} was written, but {tool} {version} does not load it: {str(cause)[:500]}",
        tool=tool,
        version=version,
        log_tail=str(cause)[-2000:],
    )
