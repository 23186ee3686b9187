"""What real quantizers store is within half a step of the float weights, as each recipe's formula says."""

import json
import subprocess
from functools import cache
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
