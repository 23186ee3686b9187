"""Run TFLite models with LiteRT's interpreter and its XNNPACK delegate, on hosts and on builders.

Tested with ai-edge-litert 2.3.0. Source: LiteRT Python API, `Interpreter`.
Tensors go by their names in the file's first subgraph; an open axis is resized when an array of another size comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Axis, Format, TensorSpec
from workers.runtimes import Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".tflite",)


class LiteRtSession:
    """One interpreter with allocated tensors."""

    def __init__(self, path: Path, *, threads: int = 1, delegate: str | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter, load_delegate

        self._interpreter = Interpreter(
            model_path=str(entry_file(path, SUFFIXES)),
            num_threads=threads,
            experimental_delegates=[load_delegate(delegate)] if delegate else None,
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

    def _resize(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        changed = {name: array.shape for name, array in feeds.items() if array.shape != self._shapes[name]}
        for name, shape in changed.items():
            self._interpreter.resize_tensor_input(self._index[name], shape, strict=True)
            self._shapes[name] = shape
        if changed:
            self._interpreter.allocate_tensors()


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
)
