"""Quantizers name what they add after what is there: no added name may meet one that a model holds already."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.stage_fixtures import PREPARED, ROOT, spec
from tests.transform_fixtures import Source, calibration, call, run_in

pytestmark = pytest.mark.toolchain

MAKE = """
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
rng = np.random.default_rng(1)
deep = 12
weights = [numpy_helper.from_array(rng.standard_normal((8, 8)).astype("float32") / 3, f"w{at}") for at in range(deep)]
shared = numpy_helper.from_array(rng.standard_normal(8).astype("float32"), "shared")
names = ["x", *(f"h{at}" for at in range(deep - 1)), "y"]
nodes = [helper.make_node("Gemm", [names[at], f"w{at}", "shared"], [names[at + 1]]) for at in range(deep)]
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy")
graph = helper.make_graph(nodes, "deep", [x], [y], initializer=[weights[0], shared, *weights[1:]])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), sys.argv[1])
"""


def test_the_copies_of_a_bias_that_layers_share_meet_no_other_tensor(tmp_path: Path) -> None:
    """Given twelve layers with one bias, which ONNX Runtime copies by number; then each layer still has its own."""
    path = tmp_path / "deep.onnx"
    subprocess.run([ROOT / ".envs" / "builder" / "bin" / "python", "-c", MAKE, path], env=PREPARED, check=True)
    inputs = [spec("x", "float32", 1, 8)]
    source = Source(path, inputs, [spec("y", "float32", 1, 8)])
    stage = "quantize-onnx-int8-static"

    found = run_in("builder", {stage: call(stage, source, calibration=calibration(inputs))})[stage]

    assert found.facts["sqnr_db"] > 15
