"""Run ONNX and ORT-format models with ONNX Runtime's CPU provider, on hosts and on builders.

Tested with onnxruntime 1.32.0. Source: ONNX Runtime Python API, `InferenceSession` and `SessionOptions`.
Limits: tensors only; sequences, maps and strings are described but cannot be fed. An ORT-format file is told by its
mark, whatever its name; it runs as it was saved, since ONNX Runtime optimizes it no further.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Axis, Format, TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE
from workers.runtimes import Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".onnx", ".ort")
_NUMPY_NAMES = {"float": "float32", "double": "float64", "string": "str"}
_FATAL_ONLY = 4
_ORT_MARK, _ORT_MARK_AT = b"ORTM", 4


def is_ort_format(file: Path) -> bool:
    """Tell an ORT-format file by the identifier of its flatbuffer."""
    with file.open("rb") as opened:
        return opened.read(_ORT_MARK_AT + len(_ORT_MARK))[_ORT_MARK_AT:] == _ORT_MARK


class OnnxSession:
    """One InferenceSession on the CPU; `optimize=False` only proves that every operator has a kernel."""

    def __init__(self, path: Path, *, threads: int = 1, optimize: bool = True) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        file = entry_file(path, SUFFIXES)
        options.add_session_config_entry("session.load_model_format", "ORT" if is_ort_format(file) else "ONNX")
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(_spec(value) for value in self._session.get_inputs())
        self.outputs = tuple(_spec(value) for value in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(self._names, self._session.run(self._names, feeds), strict=True))


def _spec(value: Any) -> TensorSpec:
    """Read a NodeArg: type "tensor(float)", shape with int, symbol or None per axis."""
    if not value.type.startswith("tensor("):
        return TensorSpec(value.name, UNKNOWN_DTYPE, None)
    element = value.type.removeprefix("tensor(").removesuffix(")")
    shape: tuple[Axis, ...] = tuple(
        axis if isinstance(axis, (int, str)) and axis != "" else "?" for axis in value.shape
    )
    return TensorSpec(value.name, _NUMPY_NAMES.get(element, element), shape)


def refusals() -> tuple[type[Exception], ...]:
    """Return every exception class of the library; they share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError)


RUNTIME = Runtime(
    name="onnxruntime",
    accepts=(Format.ONNX, Format.ORT),
    environment="onnxruntime",
    tools=("onnxruntime",),
    preload=("numpy", "onnxruntime"),
    deployable=True,
    load=OnnxSession,
    refusals=refusals,
)
