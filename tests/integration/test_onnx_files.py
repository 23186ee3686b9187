"""ONNX files made ready for converters: what is missing is told from what is unsafe, and bodies are renamed too."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from farm.domain.codec import decode
from farm.domain.facts import Format, ModelFacts
from tests.stage_fixtures import PREPARED, ROOT, Call, run_calls, spec
from tests.transform_fixtures import repeated_db
from workers.stages.convert.onnx_operators import refused_operators

pytestmark = pytest.mark.toolchain

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from farm.domain.errors import FarmError
from farm.domain.stage import Options, StageInput
from workers.stages import load_specs
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
        told[name] = [exc.code, exc.message, exc.remedy, exc.evidence.get('tool')]

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

LIB, ATEN = helper.make_opsetid("", 18), "pkg.onnxscript.torch_lib"

def function(name, nodes, attributes=(), opset=LIB):
    opsets = [opset, helper.make_opsetid(ATEN, 1)]
    return helper.make_function(ATEN, name, ["x"], ["y"], nodes, opsets, list(attributes))

def exported(name, calls, functions):
    made = model(calls, [tensor("x", shape=(1, 4))], [tensor("y", shape=(1, 4))], opset=("", 18))
    made.functions.extend(functions)
    made.opset_import.append(helper.make_opsetid(ATEN, 1))
    onnx.save(made, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"

leaky = helper.make_node("LeakyRelu", ["x"], ["t"])
leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
outer = function("aten_leaky_relu", [leaky, helper.make_node("aten_neg", ["t"], ["y"], domain=ATEN)], ["slope"])
inner = function("aten_neg", [helper.make_node("Neg", ["x"], ["y"])], opset=helper.make_opsetid("", 13))
call = helper.make_node("aten_leaky_relu", ["x"], ["h"], domain=ATEN, slope=0.5)
path = exported("functions", [call, helper.make_node("Relu", ["h"], ["y"])], [outer, inner])
flat = load_inlined(path)
onnx.checker.check_model(flat, full_check=True)
told["flat"] = [[node.op_type for node in flat.graph.node], [entry.domain for entry in flat.opset_import]]
told["same"] = ReferenceEvaluator(flat).run(None, {"x": np.array([[-2, -1, 1, 2]], np.float32)})[0].tolist()

def inspected(path):
    return load_specs()["inspect-onnx"].run(StageInput({"model": path}, Options(), {}, None, folder))

told["facts"] = inspected(path).facts
flag = numpy_helper.from_array(np.array(True), "flag")
drop = function("aten_dropout", [
    helper.make_node("Constant", [], ["ratio"], value_float=0.5),
    helper.make_node("Constant", [], ["train"], value=flag),
    helper.make_node("Dropout", ["x", "ratio", "train"], ["y"]),
])
said("training", lambda: inspected(exported("training", [helper.make_node("aten_dropout", ["x"], ["y"], domain=ATEN)],
                                            [drop])))
unraised = model([helper.make_node("Upsample", ["x", "s"], ["y"], mode="linear")],
                 [tensor("x", shape=(1, 1, 4, 4))], [tensor("y", shape=(1, 1, 8, 8))],
                 [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s")], opset=("", 9))
unraised.graph.node.append(helper.make_node("Bogus", ["y"], ["z"]))
said("unraised", lambda: raise_opset(unraised, 13, 17))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    python, folder = ROOT / ".envs" / "builder" / "bin" / "python", tmp_path_factory.mktemp("files")
    ran = subprocess.run(
        [python, "-c", SCRIPT, folder],
        cwd=ROOT,
        env=PREPARED,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout) | {"folder": folder}
    return found


@pytest.mark.parametrize(("name", "code"), [("missing", "missing-file"), ("outside", "unsafe-model")])
def test_a_data_file_that_is_missing_is_not_called_unsafe(told: dict[str, Any], name: str, code: str) -> None:
    assert told[name][0] == code
    assert told[name][2]


def test_a_model_without_standard_operators_is_refused_in_words(told: dict[str, Any]) -> None:
    code, message, remedy, _ = told["foreign"]

    assert code == "incompatible"
    assert "only ai.onnx.ml 3" in message
    assert "opset_import" in remedy


def test_bodies_follow_a_renamed_interface(told: dict[str, Any]) -> None:
    """Given an If whose branch reads the renamed input, and holds the output's new name itself."""
    assert told["renamed"] == [[-1.0, 2.0], [1.0, 2.0]]


def test_functions_of_the_models_own_become_their_bodies(told: dict[str, Any]) -> None:
    """Given functions as exporters of 2023 wrote them: nested, with attributes, one of another opset."""
    assert told["flat"] == [["LeakyRelu", "Neg", "Relu"], [""]]
    assert told["same"] == [[1.0, 0.5, 0.0, 0.0]]


def test_inspection_counts_the_operators_in_functions(told: dict[str, Any]) -> None:
    """Given functions of a domain of their own; then no converter takes their calls for foreign operators."""
    facts = decode(ModelFacts, json.loads(json.dumps(told["facts"])))

    assert facts.operators == {"LeakyRelu": 1, "Neg": 1, "Relu": 1}
    assert facts.extra["functions"] == 2
    assert refused_operators(facts, "onnx2tf").can


def test_training_mode_is_seen_inside_functions(told: dict[str, Any]) -> None:
    code, message, *_ = told["training"]

    assert (code, "Dropout is active" in message.replace(" ()", "")) == ("bad-request", True), message


@pytest.mark.slow
def test_a_model_with_functions_is_converted_and_its_command_repeats_that(told: dict[str, Any], tmp_path: Path) -> None:
    options = {"input_specs": [spec("x", "float32", 1, 4)], "output_specs": [spec("y", "float32", 1, 4)]}
    files = {"model": told["folder"] / "functions.onnx"}

    stages = {"onnx-to-tflite": ("onnx2tf", Format.TFLITE), "onnx-to-openvino-ir": ("builder", Format.OPENVINO_IR)}
    for stage, (environment, target) in stages.items():
        made = run_calls(environment, {stage: Call(stage, files, options)}, tmp_path / stage)[stage]
        assert made.facts["sqnr_db"] > 100
        (tmp_path / environment).mkdir()
        assert repeated_db(made, environment, tmp_path / environment, target) > 100


def test_an_opset_that_can_not_be_raised_is_onnxs_failure(told: dict[str, Any]) -> None:
    code, message, _, tool = told["unraised"]

    assert (code, tool) == ("conversion-failed", "onnx"), message
