"""Stages that only tests have, for failures no toolchain here offers at will: a crash, a hang, one by the weights.

Registered where this module is imported, also in the sandbox's zygotes, by `preload`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.domain.errors import ConversionFailed
from farm.domain.facts import Format
from farm.domain.stage import REGISTRY, Kind, Run, StageInput, StageOutput, stage
from workers.stages import load_specs

CRASHES, HANGS, WEIGHTS = "test-crash-to-tflite", "test-hang-to-tflite", "test-weights-to-tflite"


def _register(name: str, run: Run) -> None:
    declared: dict[str, Any] = {"source": Format.ONNX, "target": Format.TFLITE, "tools": ("onnx",)}
    preload = ("onnx", "tests.minimize_stages")
    stage(name=name, version="1", kind=Kind.CONVERT, environment="builder", preload=preload, **declared)(run)


def _operators(given: StageInput) -> set[str]:
    import onnx

    return {node.op_type for node in onnx.load(given.files["model"]).graph.node}


def crash(given: StageInput) -> StageOutput:
    """Read address 0 when two operators are there, however far apart."""
    import ctypes

    if {"Det", "Sigmoid"} <= _operators(given):
        ctypes.string_at(0)
    return _written(given)


def hang(given: StageInput) -> StageOutput:
    while "Det" in _operators(given):
        time.sleep(0.05)
    return _written(given)


def refuse_weights(given: StageInput) -> StageOutput:
    """Fail for values alone."""
    import onnx

    for tensor in onnx.load(given.files["model"]).graph.initializer:
        if tensor.dims == [4, 4, 3, 3] and onnx.numpy_helper.to_array(tensor).std() > 0.25:
            raise ConversionFailed("These weights are too large.")
    return _written(given)


def _written(given: StageInput) -> StageOutput:
    (given.work / "model.tflite").write_bytes(b"written")
    return StageOutput(files={"model": given.work / "model.tflite"})


@contextmanager
def registered() -> Iterator[None]:
    """Have the stages while a test runs, and no longer: other suites walk over every stage there is."""
    names = {CRASHES: crash, HANGS: hang, WEIGHTS: refuse_weights}
    for name, run in names.items():
        if name not in REGISTRY:
            _register(name, run)
    load_specs.cache_clear()
    try:
        yield
    finally:
        for name in names:
            del REGISTRY[name]
        load_specs.cache_clear()


if __name__ != "__main__":
    for _name, _run in ((CRASHES, crash), (HANGS, hang), (WEIGHTS, refuse_weights)):
        _register(_name, _run)
    load_specs.cache_clear()
