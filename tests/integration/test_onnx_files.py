"""ONNX files made ready for converters: what is missing is told from what is unsafe, and bodies are renamed too."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.stage_fixtures import PREPARED, ROOT

pytestmark = pytest.mark.toolchain

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from farm.domain.errors import FarmError
from workers.stages.onnx_files import load_inlined, raise_opset, rename_interface

folder, told = Path(sys.argv[1]), {}

def tensor(name, kind=TensorProto.FLOAT, shape=(2,)):
    return helper.make_tensor_value_info(name, kind, shape)

def model(nodes, inputs, outputs, weights=(), opset=("", 20)):
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*opset)], ir_version=10)

def said(name, call):
    try:
        call()
    except FarmError as exc:
        told[name] = [exc.code, exc.message, exc.remedy]

for name, location in {"missing": "weights.bin", "outside": "../weights.bin"}.items():
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    path = folder / f"{name}.onnx"
    path.write_bytes(model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("x")], [tensor("y")], [weight])
                     .SerializeToString())
    said(name, lambda: load_inlined(path))

scaler = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
foreign = model([scaler], [tensor("x")], [tensor("y")], opset=("ai.onnx.ml", 3))
said("foreign", lambda: raise_opset(foreign, 13, 17))

then = helper.make_graph([helper.make_node("Neg", ["x"], ["scores"])], "then", [], [tensor("scores")])
other = helper.make_graph([helper.make_node("Abs", ["x"], ["b"])], "other", [], [tensor("b")])
branch = helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=other)
renamed = model([branch], [tensor("x"), tensor("flag", TensorProto.BOOL, ())], [tensor("y")])
rename_interface(renamed, {"x": "image"}, {"y": "scores"})
onnx.checker.check_model(renamed, full_check=True)
feeds = {"image": np.array([1, -2], np.float32)}
told["renamed"] = [
    ReferenceEvaluator(renamed).run(["scores"], feeds | {"flag": np.array(flag)})[0].tolist() for flag in (True, False)
]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    ran = subprocess.run(
        [python, "-c", SCRIPT, tmp_path_factory.mktemp("files")],
        cwd=ROOT,
        env=PREPARED,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize(("name", "code"), [("missing", "missing-file"), ("outside", "unsafe-model")])
def test_a_data_file_that_is_missing_is_not_called_unsafe(told: dict[str, Any], name: str, code: str) -> None:
    assert told[name][0] == code
    assert told[name][2]


def test_a_model_without_standard_operators_is_refused_in_words(told: dict[str, Any]) -> None:
    code, message, remedy = told["foreign"]

    assert code == "incompatible"
    assert "only ai.onnx.ml 3" in message
    assert "opset_import" in remedy


def test_bodies_follow_a_renamed_interface(told: dict[str, Any]) -> None:
    """Given an If whose branch reads the renamed input, and holds the output's new name itself."""
    assert told["renamed"] == [[-1.0, 2.0], [1.0, 2.0]]
