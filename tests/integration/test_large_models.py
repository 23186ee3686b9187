"""A model of over 2 GB: what reads it from where it lies takes it, and what needs one file refuses it before any work.

Nine weights of 256 MiB lie in one sparse file of zeros but for a diagonal, so that the model takes little disk.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from farm.domain.codec import decode
from farm.domain.facts import ModelFacts
from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, run_calls, spec
from workers.stages import load_specs

pytestmark = [pytest.mark.toolchain, pytest.mark.slow, pytest.mark.timeout(600)]

LIMIT = (2 << 30) - 1
SPECS = {"input_specs": [spec("x", "float32", 1, 8192)], "output_specs": [spec("y", "float32", 1, 8192)]}
MAKE = """
import sys
from pathlib import Path
import numpy as np, onnx
from onnx import TensorProto, helper

folder, size, count = Path(sys.argv[1]), 8192, 9
each = size * size * 4
with (folder / "weights.bin").open("wb") as data:
    data.truncate(count * each)
    for at in range(count):
        for row in range(0, size, 64):
            data.seek(at * each + (row * size + row) * 4)
            data.write(np.float32(0.25 + at).tobytes())
nodes, weights, last = [], [], "x"
for at in range(count):
    weight = TensorProto(name=f"w{at}", data_type=TensorProto.FLOAT, dims=[size, size])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", str(at * each)), ("length", str(each))):
        weight.external_data.add(key=key, value=value)
    weights.append(weight)
    nodes.append(helper.make_node("MatMul", ["x", f"w{at}"], [f"m{at}"]))
    nodes.append(helper.make_node("Add", [last, f"m{at}"], ["y" if at == count - 1 else f"a{at}"]))
    last = f"a{at}"
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("x", "y")]
graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], initializer=weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", MAKE, folder], env=PREPARED, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def firsts(large: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Run each call in a process of its own, so that one model is in memory at a time."""
    calls = {
        "facts": Call("inspect-onnx", {"model": large}),
        "reference": Call("reference-onnx", {"model": large}, SPECS | {"samples": 2}),
        "ir": Call("onnx-to-openvino-ir", {"model": large}, SPECS),
    }
    folder = tmp_path_factory.mktemp("firsts")
    return {name: run_calls("builder", {name: call}, folder / name)[name] for name, call in calls.items()}


def test_inspection_reads_its_facts_and_not_its_weights(firsts: dict[str, Answer]) -> None:
    facts = decode(ModelFacts, firsts["facts"].facts)

    assert facts.size_bytes is not None
    assert facts.size_bytes > 9 * (256 << 20) > LIMIT
    assert facts.parameters == 9 * 8192 * 8192
    assert facts.operators == {"MatMul": 9, "Add": 9}


def test_it_computes_the_same_under_both_runtimes(large: Path, firsts: dict[str, Answer], tmp_path: Path) -> None:
    samples, ir = firsts["reference"].output("samples"), firsts["ir"]
    contract = ir.result["contract"]
    onnx = {"onnx": Call("compare-onnxruntime", {"model": large, "samples": samples}, SPECS)}
    converted = {"ir": Call("compare-openvino", {"model": ir.output("model"), "samples": samples}, SPECS, contract)}

    found = run_calls("onnxruntime", onnx, tmp_path / "onnx") | run_calls("openvino", converted, tmp_path / "ir")

    for name, answer in found.items():
        assert answer.facts["numerics"]["sqnr_db"] > 60, name
        assert answer.facts["numerics"]["elements"] == 2 * 8192


@pytest.mark.parametrize("stage", ["compile-onnx-to-ort", "onnx-to-tflite", "onnx-to-tflite-via-torch", "trace-onnx"])
def test_one_file_that_cannot_hold_it_is_refused_with_bytes_and_limit(stage: str, firsts: dict[str, Answer]) -> None:
    found = load_specs()[stage]

    verdict = found.check(decode(ModelFacts, firsts["facts"].facts), {}, found.options())

    assert not verdict.can
    assert f"{firsts['facts'].facts['size_bytes']} bytes" in (verdict.reason or "")
    assert f"{LIMIT} at most" in (verdict.reason or "")
