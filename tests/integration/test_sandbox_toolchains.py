"""Real toolchains in zygotes and fresh interpreters under full isolation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from workers.sandbox import Ending, Level, Limits

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import REPOSITORY, Bench, adopt_orphans, bench

pytestmark = pytest.mark.toolchain

LIMITS = Limits(wall_s=120, memory_bytes=3 << 30, disk_bytes=1 << 30, file_bytes=1 << 30)
MAKE_ONNX = """
import onnx, sys
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), sys.argv[1])
"""


def environment(name: str) -> Path:
    folder = REPOSITORY / ".envs" / name
    if not (folder / "bin" / "python3").exists():
        pytest.skip(f"the environment {name} is not installed")
    return folder


@pytest.fixture(scope="module")
def at() -> Iterator[Bench]:
    adopt_orphans()
    with bench(Level.FULL) as made:
        yield made


@pytest.fixture(scope="module")
def onnx_file(at: Bench) -> Path:
    path = at.folder / "model.onnx"
    subprocess.run([environment("builder") / "bin" / "python3", "-c", MAKE_ONNX, path], check=True)
    return path


def run(at: Bench, entry: str, *, work: Path, name: str = "builder", **changes: object) -> tuple[Ending, float]:
    call = at.call(entry, work, environment=environment(name), limits=LIMITS)
    ending = at.sandbox.run(replace(call, entry=f"tests.sandbox_toolchains:{entry}", **changes))
    assert (ending.end, ending.exit_code) == ("exit", 0), f"{ending}\n{(work / 'log.txt').read_text()[-2000:]}"
    return ending, json.loads((work / "value.json").read_text())


def test_torch_exports_trains_and_refuses_pickles(at: Bench) -> None:
    ending, difference = run(at, "torch_exports_and_trains", work=at.work(), preload=("torch",))
    refused = at.work()
    run(at, "torch_refuses_a_hostile_pickle", work=refused, preload=("torch",))

    assert difference < 1e-5
    assert ending.peak_memory_bytes
    assert not (refused / "pwned").exists()


def test_tensorflow_quantizes(at: Bench) -> None:
    _, size = run(at, "keras_becomes_int8_tflite", work=at.work(), preload=("tensorflow", "keras"))

    assert size == 6 * 6 * 4


def test_litert_torch_converts_and_litert_runs_the_file(at: Bench) -> None:
    converted = at.work()
    run(at, "litert_torch_converts", work=converted, preload=("litert_torch",))
    measured = at.work()
    (measured / "model.tflite").write_bytes((converted / "model.tflite").read_bytes())

    _, fresh = run(at, "litert_runs", work=measured, name="litert", fresh=True)
    _, forked = run(at, "litert_runs", work=measured, preload=("ai_edge_litert.interpreter",))

    assert fresh > 0
    assert forked == pytest.approx(fresh)


@pytest.mark.parametrize("name", ["builder", "onnxruntime"])
@pytest.mark.parametrize("fresh", [False, True], ids=["fork", "fresh"])
def test_onnxruntime_runs(at: Bench, onnx_file: Path, name: str, fresh: bool) -> None:
    work = at.work()
    (work / "model.onnx").write_bytes(onnx_file.read_bytes())

    ending, total = run(at, "onnxruntime_runs", work=work, name=name, fresh=fresh, preload=("onnxruntime",))

    assert total == 8.0
    assert ending.start_ms is not None


def test_openvino_runs_in_a_zygote_that_keeps_its_one_thread(at: Bench) -> None:
    _, total = run(at, "openvino_compiles", work=at.work(), preload=("openvino",))

    assert total == 8.0


def test_a_zygote_whose_imports_leave_threads_is_refused(at: Bench) -> None:
    ending = at.sandbox.run(at.call("describe", at.work(), preload=("tests.sandbox_threaded",)))

    assert ending.end == "setup"
    assert "must not fork" in (ending.detail or "")
