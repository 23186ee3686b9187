"""Run ONNX and ORT-format models with ONNX Runtime's CPU provider, on hosts and on builders.

Tested with onnxruntime 1.32.0. Source: ONNX Runtime Python API, `InferenceSession` and `SessionOptions`.
Limits: tensors only; sequences, maps and strings are described but cannot be fed. An ORT-format file is told by its
mark, whatever its name; it runs as it was saved, since ONNX Runtime optimizes it no further.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Axis, Format, TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE
from farm.domain.operators import ComputeUnit, OperatorProfile, OperatorTime
from workers.runtimes import Profiling, Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".onnx", ".ort")
_NUMPY_NAMES = {"float": "float32", "double": "float64", "string": "str"}
_FATAL_ONLY = 4
_KERNEL = "_kernel_time"
_UNITS = {
    "CUDAExecutionProvider": ComputeUnit.GPU,
    "TensorrtExecutionProvider": ComputeUnit.GPU,
    "DmlExecutionProvider": ComputeUnit.GPU,
    "QNNExecutionProvider": ComputeUnit.NPU,
    "VitisAIExecutionProvider": ComputeUnit.NPU,
}
"""Execution providers of accelerators; all others run on the CPU."""
_ORT_MARK, _ORT_MARK_AT = b"ORTM", 4


def is_ort_format(file: Path) -> bool:
    """Tell an ORT-format file by the identifier of its flatbuffer."""
    with file.open("rb") as opened:
        return opened.read(_ORT_MARK_AT + len(_ORT_MARK))[_ORT_MARK_AT:] == _ORT_MARK


class OnnxSession:
    """One InferenceSession on the CPU; `optimize=False` only proves that every operator has a kernel."""

    def __init__(self, path: Path, *, threads: int = 1, optimize: bool = True, profile_to: Path | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        if profile_to is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile_to)
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

    def end_profiling(self) -> list[dict[str, Any]]:
        """Give what the profiler recorded: events in Chrome's trace format, times in microseconds."""
        events: list[dict[str, Any]] = json.loads(Path(self._session.end_profiling()).read_text())
        return events


def profile(path: Path, asked: Profiling) -> OperatorProfile:
    """Time the operators of the optimized graph with ONNX Runtime's own profiler; the first call is left out.

    Source: ONNX Runtime documentation, "Profiling tools" (events of category Node, named NODE_kernel_time).
    """
    session = OnnxSession(path, threads=asked.threads, profile_to=asked.work / "operators")
    for _ in range(asked.calls + 1):
        session.run(asked.feeds)
    return operators_of(session.end_profiling())


def operators_of(events: Sequence[Mapping[str, Any]]) -> OperatorProfile:
    """Take the median over the calls of each node; a node of a subgraph may run several times a call."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            found.setdefault(event["name"].removesuffix(_KERNEL), []).append(event)
    return OperatorProfile(
        tuple(
            OperatorTime(
                name,
                taken[0]["args"]["op_name"],
                _UNITS.get(taken[0]["args"].get("provider", ""), ComputeUnit.CPU),
                float(median(event["dur"] for event in taken[1:] or taken)),
            )
            for name, taken in found.items()
        )
    )


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
    profile=profile,
)
