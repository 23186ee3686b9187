"""Run TFLite models with LiteRT's interpreter and its XNNPACK delegate, on hosts and on builders.

Tested with ai-edge-litert 2.3.0. Source: LiteRT Python API, `Interpreter`.
Tensors go by their names in the file's first subgraph; an open axis is resized when an array of another size comes.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import ToolchainError
from farm.domain.facts import Axis, Format, TensorSpec
from farm.domain.operators import ComputeUnit, OperatorProfile, OperatorTime
from workers.runtimes import Profiling, Runtime
from workers.runtimes.files import entry_file
from workers.runtimes.litert_operators import timed_operators

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".tflite",)
ACCELERATED = ("edgetpu-custom-op",)
"""Operators that stand for all those a compiler mapped to an accelerator."""
_DELEGATE = "DELEGATE"


class LiteRtSession:
    """One interpreter with allocated tensors; `library` is the module it comes from."""

    library = "ai_edge_litert.interpreter"

    def __init__(self, path: Path, *, threads: int = 1, delegate: str | None = None) -> None:
        library = importlib.import_module(self.library)
        self._interpreter = library.Interpreter(
            model_path=str(entry_file(path, SUFFIXES)),
            num_threads=threads,
            experimental_delegates=[library.load_delegate(delegate)] if delegate else None,
        )
        self._interpreter.allocate_tensors()
        inputs = self._interpreter.get_input_details()
        self.inputs = tuple(_spec(detail) for detail in inputs)
        self.outputs = tuple(_spec(detail) for detail in self._interpreter.get_output_details())
        self._index = {detail["name"]: int(detail["index"]) for detail in inputs}
        self._shapes = {detail["name"]: tuple(int(size) for size in detail["shape"]) for detail in inputs}
        self._outputs = [(d["name"], int(d["index"])) for d in self._interpreter.get_output_details()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self._resize(feeds)
        for name, array in feeds.items():
            self._interpreter.set_tensor(self._index[name], array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs}

    def operators(self) -> tuple[OperatorTime, ...]:
        """List the operators of the main graph in the order of the file, by the name of the first tensor each makes.

        An operator that a delegate of an accelerator took at compile time is one node of that delegate's own.
        """
        nodes = [node for node in self._interpreter._get_ops_details() if node["op_name"] != _DELEGATE]
        return tuple(
            OperatorTime(
                self._interpreter._get_tensor_details(int(node["outputs"][0]), 0)["name"],
                node["op_name"],
                ComputeUnit.NPU if node["op_name"] in ACCELERATED else ComputeUnit.CPU,
                None,
            )
            for node in nodes
            if len(node["outputs"])
        )

    def _resize(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        changed = {name: array.shape for name, array in feeds.items() if array.shape != self._shapes[name]}
        for name, shape in changed.items():
            self._interpreter.resize_tensor_input(self._index[name], shape, strict=True)
            self._shapes[name] = shape
        if changed:
            self._interpreter.allocate_tensors()


def profile(path: Path, asked: Profiling) -> OperatorProfile:
    """Time the kernels by the library's profiler; where that fails, list the operators and say why they have no times.

    Source: LiteRT Python API, `Interpreter`, for the list.
    """
    try:
        return OperatorProfile(timed_operators(entry_file(path, SUFFIXES), asked))
    except ToolchainError as error:
        listed = LiteRtSession(path, threads=asked.threads).operators()
        return OperatorProfile(listed, f"The operators have no times: {error.message}")


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    """Read a tensor's details; an axis of -1 in `shape_signature` is open."""
    import numpy as np

    signature = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    shape: tuple[Axis, ...] = tuple(int(size) if size >= 0 else "?" for size in signature)
    dtype = np.dtype(detail["dtype"])
    quantization = detail["quantization_parameters"]
    if dtype.kind not in "iu" or len(quantization["scales"]) != 1:
        return TensorSpec(detail["name"], dtype.name, shape)
    scale, zero_point = float(quantization["scales"][0]), int(quantization["zero_points"][0])
    return TensorSpec(detail["name"], dtype.name, shape, scale, zero_point)


RUNTIME = Runtime(
    name="litert",
    accepts=(Format.TFLITE,),
    environment="litert",
    builds_in="litert",
    tools=("ai-edge-litert",),
    preload=("numpy", "ai_edge_litert.interpreter"),
    deployable=True,
    load=LiteRtSession,
    profile=profile,
)
