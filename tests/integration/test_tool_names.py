"""A failure names the tool that failed: each is made to fail in turn, within stages that call several."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.stage_fixtures import PREPARED, ROOT, models

pytestmark = [pytest.mark.toolchain, pytest.mark.slow]

BLAMED = """
import importlib, json, sys
from pathlib import Path
from unittest import mock
from farm.domain.errors import FarmError
from farm.domain.facts import Format, TensorSpec

models, work = Path(sys.argv[1]), Path(sys.argv[2])
IMAGE = (TensorSpec("image", "float32", (1, 3, 8, 8)),)

def blamed(broken, error, call):
    module, _, name = broken.rpartition(".")
    with mock.patch.object(importlib.import_module(module), name, side_effect=error):
        try:
            call()
        except FarmError as exc:
            return exc.evidence.get("tool")
"""
BUILDER = f"""{BLAMED}
import torch
from workers.stages.convert.onnx_to_tflite_via_torch import _without_torchvision, torch_module
from workers.stages.convert.tensorflow_models import load_function
from workers.stages.export.programs import load_fixed_program
from workers.stages.saved_models import save_module

with _without_torchvision():
    import onnx2torch

def onnx():
    torch_module(models / "good.onnx", IMAGE)

def program():
    load_fixed_program(models / "good.pt2", IMAGE)

def saved():
    save_module(torch.nn.ReLU().eval(), IMAGE, ["y"], work / "saved")

def keras():
    load_function(Format.KERAS, models / "good.keras", (TensorSpec("image", "float32", (1, 8, 8, 3)),), ["a", "b"])

freeze = "tensorflow.python.framework.convert_to_constants.convert_variables_to_constants_v2"
boom = RuntimeError("boom")
print(json.dumps({{
    "onnxslim.slim": blamed("onnxslim.slim", boom, onnx),
    "onnx2torch.convert": blamed("onnx2torch.convert", boom, onnx),
    "program: torch.export": blamed("torch.export.export", boom, program),
    "saved: torch.export": blamed("torch.export.export", boom, saved),
    "litert_torch": blamed("litert_torch.backend.export.exported_program_to_mlir", boom, saved),
    "XlaCallModule": blamed("litert_torch.backend.tf_integration.mlir_to_tf_function", boom, saved),
    "keras": blamed("workers.stages.convert.tensorflow_models.load_model", boom, keras),
    "freeze": blamed(freeze, boom, keras),
}}))
"""
ONNX2TF = f"""{BLAMED}
from workers.stages.convert import onnx_to_tflite as stage

def simplify():
    stage._simplify(models / "good.onnx", work / "private.onnx", {{"image": [1, 3, 8, 8]}})

def convert():
    stage._convert(work / "private.onnx", work / "onnx2tf", [])

print(json.dumps({{
    "onnxsim.simplify": blamed("onnxsim.simplify", RuntimeError("boom"), simplify),
    "onnx2tf.convert": blamed("onnx2tf.convert", RuntimeError("boom"), convert),
    "onnx2tf exits": blamed("onnx2tf.convert", SystemExit(1), convert),
    "onnx2tf writes nothing": blamed("onnx2tf.convert", None, convert),
}}))
"""
TOOLS = {
    "builder": {
        "onnxslim.slim": "onnxslim",
        "onnx2torch.convert": "onnx2torch",
        "program: torch.export": "torch",
        "saved: torch.export": "torch",
        "litert_torch": "litert-torch",
        "XlaCallModule": "tensorflow-cpu",
        "keras": "keras",
        "freeze": "tensorflow-cpu",
    },
    "onnx2tf": {
        "onnxsim.simplify": "onnxsim",
        "onnx2tf.convert": "onnx2tf",
        "onnx2tf exits": "onnx2tf",
        "onnx2tf writes nothing": "onnx2tf",
    },
}


@pytest.mark.parametrize(("environment", "script"), [("builder", BUILDER), ("onnx2tf", ONNX2TF)])
def test_the_tool_that_failed_is_named(environment: str, script: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [ROOT / ".envs" / environment / "bin" / "python", "-c", script, models(), tmp_path],
        env=PREPARED | {"HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == TOOLS[environment]
