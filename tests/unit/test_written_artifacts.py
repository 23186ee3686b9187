"""What a stage wrote and its runtime refuses is the toolchain's failure, whatever the message means of a source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from farm.domain.errors import ArtifactBroken, CorruptModel, FarmError, ToolOutOfMemory
from farm.domain.facts import Format, TensorSpec
from farm.domain.progress import may_fall_back
from workers.runtimes import load_runtimes
from workers.stages import transforms

CUSTOM = "[ONNXRuntimeError] : 1 : FAIL : acme:Foo(-1) is not a registered function/op"


class Fail(Exception):
    """Stands in for what ONNX Runtime raises: it derives from Exception alone."""


@dataclass
class StandIn:
    """A session that fails when it is run."""

    error: Exception
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def run(self, feeds: Any) -> NoReturn:
        raise self.error


def loading(error: Exception) -> Callable[..., StandIn]:
    def load(path: Path, *, threads: int = 1) -> StandIn:
        raise error

    return load


def running(error: Exception) -> Callable[..., StandIn]:
    return lambda path, *, threads=1: StandIn(error)


@pytest.mark.parametrize("fails", [loading, running])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Fail(CUSTOM), ArtifactBroken),
        (ValueError("shapes do not match"), ArtifactBroken),
        (CorruptModel("model.onnx is empty."), ArtifactBroken),
        (RuntimeError("std::bad_alloc"), ToolOutOfMemory),
    ],
)
def test_a_file_that_its_runtime_refuses_lets_another_route_be_tried(
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[[Exception], Callable[..., StandIn]],
    error: Exception,
    kind: type[FarmError],
) -> None:
    runtime = replace(load_runtimes()["onnxruntime"], load=fails(error), refusals=lambda: (Fail,))
    monkeypatch.setattr(transforms, "runtime_of", lambda fmt: runtime)

    with pytest.raises(kind) as caught:
        transforms.open_artifact(Format.ONNX, Path("model.onnx")).run({"x": np.zeros(1)})

    assert caught.value.message.startswith("model.onnx was written, but onnxruntime")
    assert may_fall_back(caught.value.failure)
    assert {"tool", "version", "log_tail"} <= set(caught.value.evidence)
