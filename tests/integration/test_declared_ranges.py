"""A model that answers only inside the ranges it declares: inspected, exported, converted and compared within them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, run_calls, spec

pytestmark = [pytest.mark.toolchain, pytest.mark.slow]

BUILD = """
import torch
from torch import nn

INPUTS = ["x:float32[1,4]", "ids:int64[1,4]"]
RANGES = {"x": (1, 2), "ids": (5, 9)}


class Bounded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)

    def forward(self, x, ids):
        return torch.log(x) + torch.sqrt(2 - x) + self.embed(ids - 5).mean(-1)


def build():
    return Bounded()
"""
SAVE = "from build import build, torch; torch.manual_seed(0); torch.save(build().state_dict(), 'model.pt')"
SPECS = {
    "input_specs": [spec("x", "float32", 1, 4), spec("ids", "int64", 1, 4)],
    "output_specs": [spec("output_0", "float32", 1, 4)],
}
RANGES = {"x": [1.0, 2.0], "ids": [5.0, 9.0]}
WITHIN = {**SPECS, "ranges": RANGES}


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bounded")
    (folder / "build.py").write_text(BUILD)
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", SAVE], cwd=folder, env=PREPARED, check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def firsts(bounded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    calls = {
        "facts": Call("inspect-torch-state-dict", {"model": bounded}),
        "reference": Call("reference-torch-state-dict", {"model": bounded}, WITHIN),
        "program": Call("torch-state-dict-to-torch-exported-program", {"model": bounded}, WITHIN),
        "trace": Call("torch-state-dict-to-torchscript", {"model": bounded}, WITHIN),
        "outside": Call("torch-state-dict-to-torch-exported-program", {"model": bounded}, SPECS),
    }
    return run_calls("builder", calls, tmp_path_factory.mktemp("firsts"))


def test_inspection_runs_the_model_within_its_ranges(firsts: dict[str, Answer]) -> None:
    assert firsts["facts"].facts["extra"]["ranges"] == RANGES
    assert [(one["name"], one["shape"]) for one in firsts["facts"].facts["outputs"]] == [("output_0", [1, 4])]


def test_without_ranges_it_answers_nothing_to_compare(firsts: dict[str, Answer]) -> None:
    """Else this model would prove nothing."""
    assert firsts["outside"].failure["who_must_act"] == "submitter"


def test_it_is_exported_converted_and_compared_within_them(firsts: dict[str, Answer], tmp_path: Path) -> None:
    def onnx(made: Answer, stage: str) -> Call:
        return Call(stage, {"model": made.output("model")}, WITHIN, made.result["contract"])

    converted = {
        "by program": onnx(firsts["program"], "torch-exported-program-to-onnx"),
        "by trace": onnx(firsts["trace"], "torchscript-to-onnx"),
    }
    made = run_calls("builder", converted, tmp_path / "onnx")
    samples = firsts["reference"].output("samples")
    compared = {
        name: Call(
            "compare-onnxruntime",
            {"model": answer.output("model"), "samples": samples},
            WITHIN,
            answer.result["contract"],
        )
        for name, answer in made.items()
    }
    found = run_calls("builder", compared, tmp_path / "compared")

    assert found.keys() == converted.keys()
    for name, answer in found.items():
        assert answer.facts["numerics"]["sqnr_db"] > 100, name
