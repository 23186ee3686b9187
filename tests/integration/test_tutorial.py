"""The classic first network, stage by stage and slow; a whole farm takes it in tests/acceptance/test_main_job.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, run_call, run_calls, spec

pytestmark = [pytest.mark.toolchain, pytest.mark.slow]

BUILD = """
import torch
from torch.nn import Linear, ReLU, Sequential

INPUTS = ["pixels:float32[batch,784]"]


def build():
    return Sequential(Linear(784, 128), ReLU(), Linear(128, 10))
"""
SAVE = "from build import build, torch; torch.manual_seed(0); torch.save(build().state_dict(), 'model.pt')"
SPECS = {
    "input_specs": [spec("pixels", "float32", 1, 784)],
    "output_specs": [spec("output_0", "float32", "batch", 10)],
}


def then(environment: str, stage: str, before: Answer, folder: Path, **files: Path) -> Answer:
    """Call a stage on what the one before it made."""
    made = {"model": before.output("model"), **files}
    return run_call(environment, Call(stage, made, SPECS, before.result["contract"]), folder)


def test_a_state_dict_reaches_tflite_and_computes_the_same(tmp_path: Path) -> None:
    """Given the weights and 7 lines beside them; then LiteRT's interpreter answers as torch does."""
    source = tmp_path / "mnist"
    source.mkdir()
    (source / "build.py").write_text(BUILD)
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", SAVE], cwd=source, env=PREPARED, check=True, timeout=60)
    first = {
        name: Call(stage, {"model": source}, SPECS)
        for name, stage in {
            "reference": "reference-torch-state-dict",
            "program": "torch-state-dict-to-torch-exported-program",
        }.items()
    }

    made = run_calls("builder", first, tmp_path / "first")
    onnx = then("builder", "torch-exported-program-to-onnx", made["program"], tmp_path / "onnx")
    tflite = then("onnx2tf", "onnx-to-tflite", onnx, tmp_path / "tflite")
    samples = made["reference"].output("samples")
    compared = then("litert", "compare-litert", tflite, tmp_path / "compared", samples=samples)

    assert tflite.output("model").suffix == ".tflite"
    numerics = compared.facts["numerics"]
    assert numerics["sqnr_db"] > 100
    assert [output["name"] for output in numerics["per_output"]] == ["output_0"]
    assert numerics["elements"] == 10 * numerics["samples"] > 0
