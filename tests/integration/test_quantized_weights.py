"""What real quantizers store is within half a step of the float weights, as each recipe's formula says."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from farm.domain.facts import Format
from tests.stage_fixtures import PREPARED, ROOT, Answer
from tests.transform_fixtures import calibration, call, run_in, sources

pytestmark = pytest.mark.toolchain

READ = """
import json, sys
import numpy as np, onnx
from onnx import numpy_helper
old = {t.name: numpy_helper.to_array(t) for t in onnx.load(sys.argv[1]).graph.initializer}
graph = onnx.load(sys.argv[2]).graph
new = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
found = []
for node in graph.node:
    name = node.input[0].removesuffix("_quantized")
    if node.op_type != "DequantizeLinear" or name not in old or node.input[0] not in new or old[name].ndim < 2:
        continue
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    scale, zero = new[node.input[1]], new[node.input[2]]
    shape = [-1 if at == axis else 1 for at in range(old[name].ndim)] if scale.ndim else [1] * old[name].ndim
    step = scale.reshape(shape).astype("float64")
    back = (new[node.input[0]].astype("float64") - zero.reshape(shape)) * step
    found.append([int(scale.size), float((np.abs(old[name] - back) / step).max())])
halves = [name.removesuffix("_float16") for name in new if name.endswith("_float16")]
within = [bool((np.abs(old[n] - new[n + "_float16"]) <= np.abs(old[n]) * 2.0**-11 + 2.0**-25).all()) for n in halves]
print(json.dumps({"steps": found, "halves": within}))
"""

OUTPUTS = """
import json, sys
from pathlib import Path
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from workers.stages.quantize import litert_quantizer as tool
model, into = Path(sys.argv[1]), Path(sys.argv[2])
inputs = Interpreter(model_path=str(model)).get_input_details()
rng = np.random.default_rng(0)
rows = [{one["name"]: rng.random(one["shape"]).astype(one["dtype"]) for one in inputs} for _ in range(8)]

def spans():
    tool.quantize(model, into, rows, tool.Static("all", tool.EVERY))
    graph = flatbuffer_utils.read_model(str(into)).subgraphs[0]
    found = (graph.tensors[op.inputs[0]].quantization for op in graph.operators if op.outputs[0] in graph.outputs)
    return [255 * float(one.scale[0]) for one in found]

wide = spans()
tool.OUTPUT_MARGIN = 0.0
print(json.dumps({"wide": wide, "found": spans()}))
"""


@cache
def answers() -> dict[str, Answer]:
    onnx = sources()[Format.ONNX]
    calls = {
        "int8-static": call("quantize-onnx-int8-static", onnx, calibration=calibration(onnx.inputs)),
        "float16": call("quantize-onnx-float16", onnx),
    }
    return run_in("builder", calls)


def read(recipe: str) -> dict[str, Any]:
    answer = answers()[recipe]
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    prepared = answer.output("model").with_name("prepared.onnx")
    done = subprocess.run(
        [python, "-c", READ, prepared, answer.output("model")], env=PREPARED, capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_int8_weight_is_within_half_a_step_of_its_channel() -> None:
    steps = read("int8-static")["steps"]

    assert sorted(scales for scales, _ in steps) == [4, 5]
    assert all(error <= 0.5 + 1e-4 for _, error in steps)


def test_a_float16_weight_is_within_half_a_unit_in_its_last_place() -> None:
    halves = read("float16")["halves"]

    assert len(halves) == 2
    assert all(halves)


BOTH_WAYS = """
import json, sys
from pathlib import Path
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from workers.stages.quantize import onnx_large
from workers.stages.quantize.quantize_onnx_weights import DYNAMIC_OPERATORS, Dynamic
folder, source = Path(sys.argv[1]), np.random.default_rng(0)
shapes = {"words": (500, 32), "a": (32, 48), "b": (32, 48), "c": (32, 16)}
weights = [numpy_helper.from_array(source.standard_normal(s).astype("float32"), n) for n, s in shapes.items()]
graph = helper.make_graph(
    [
        helper.make_node("Gather", ["words", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "a"], ["y"]),
        helper.make_node("Gemm", ["y", "b"], ["z"], transB=1),
        helper.make_node("Gemm", ["z", "c"], ["out"]),
    ],
    "g",
    [helper.make_tensor_value_info("ids", TensorProto.INT64, [8])],
    [helper.make_tensor_value_info("out", TensorProto.FLOAT, [8, 16])],
    weights,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, folder / "whole.onnx")
onnx.save(model, folder / "prepared.onnx", save_as_external_data=True, location="prepared.data", size_threshold=0)
assert not onnx_large.streams(folder / "whole.onnx") and onnx_large.streams(folder / "prepared.onnx")
narrow = sys.argv[2] == "narrow"
for name in ("whole", "prepared"):
    Dynamic(narrow).write(folder / f"{name}.onnx", folder / f"{name}-int8.onnx")
made = [onnx.load(folder / f"{name}-int8.onnx").graph for name in ("whole", "prepared")]
held = [{t.name: numpy_helper.to_array(t) for t in g.initializer} for g in made]
sessions = [onnxruntime.InferenceSession(folder / f"{name}-int8.onnx") for name in ("whole", "prepared")]
out = [session.run(None, {"ids": np.arange(8)})[0] for session in sessions]
print(json.dumps({
    "kinds": [sorted(n.op_type for n in g.node) for g in made],
    "held": [sorted([str(v.dtype), *v.shape] for v in one.values()) for one in held],
    "most": int(max(abs(v.astype("int64")).max() for v in held[1].values() if v.dtype == "int8")),
    "same": bool(np.array_equal(*out)),
}))
"""


@pytest.mark.parametrize(("width", "most"), [("wide", 127), ("narrow", 64)])
def test_weights_read_one_by_one_are_quantized_as_they_are_at_once(tmp_path: Path, width: str, most: int) -> None:
    done = subprocess.run(
        [ROOT / ".envs" / "builder" / "bin" / "python", "-c", BOTH_WAYS, tmp_path, width],
        env=PREPARED,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    told = json.loads(done.stdout)
    assert told["kinds"][0] == told["kinds"][1]
    assert "MatMulInteger" in told["kinds"][1]
    assert told["held"][0] == told["held"][1]
    assert told["most"] in (most - 1, most)
    assert told["same"]


def test_an_output_of_int8_has_room_beyond_what_the_calibration_spans(tmp_path: Path) -> None:
    """A score of another sample that is a fifth larger is not cut: on few samples that was the dearest error."""
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    argv = [python, "-c", OUTPUTS, sources()[Format.TFLITE].path, tmp_path / "int8.tflite"]
    done = subprocess.run(argv, env=PREPARED, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])

    assert len(told["found"]) == 2
    assert [wide / found for wide, found in zip(told["wide"], told["found"], strict=True)] == pytest.approx([1.2, 1.2])


ONNX_RANGES = """
import json, sys
import onnxruntime
import numpy as np
from pathlib import Path
from onnxruntime.quantization import calibrate
from workers.stages.quantize import onnx_static as tool
prepared = Path(sys.argv[1])
session = onnxruntime.InferenceSession(prepared)
rng = np.random.default_rng(0)
rows = [{i.name: rng.random(i.shape).astype("float32") for i in session.get_inputs()} for _ in range(4)]
tool._calibrate(prepared, rows)
ends = calibrate.load_tensors_data(prepared.with_name(tool.SPANNED))
answers = [session.run(None, row) for row in rows]
told = []
for at, output in enumerate(session.get_outputs()):
    values = np.stack([answer[at] for answer in answers])
    kept = [end.item() for end in ends[output.name].range_value]
    told.append([kept, [float(values.min()), float(values.max())]])
print(json.dumps(told))
"""


def test_an_output_of_an_onnx_model_has_the_same_room(tmp_path: Path) -> None:
    answer = answers()["int8-static"]
    prepared = Path(shutil.copy(answer.output("model").with_name("prepared.onnx"), tmp_path))
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", ONNX_RANGES, prepared], env=PREPARED, cwd=ROOT, capture_output=True, text=True, check=True
    )

    for kept, spanned in json.loads(done.stdout):
        room = [1.2 * end for end in spanned]
        assert kept == pytest.approx([min(room[0], 0), max(room[1], 0)] if 0 in kept else room, rel=1e-4)
