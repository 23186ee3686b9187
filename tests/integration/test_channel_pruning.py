"""Structured pruning on a small module: channels go, the answers are recovered, and what gives an output stays."""

import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from farm.domain.artifact import Contract
from farm.domain.codec import decode
from farm.domain.facts import Format
from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, models
from tests.transform_fixtures import IMAGE, calibration, call, run_in, sources, spec

pytestmark = [pytest.mark.toolchain, pytest.mark.slow]

STAGE = "optimize-torch-state-dict-sparse-structured"
WIDE = """
import torch

INPUTS = ["image:float32[batch,3,8,8]"]


def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 5),
    )
"""
SAVE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from build import build
torch.save(build().state_dict(), sys.argv[1] + "/weights.pth")
"""


def wide_model() -> Path:
    folder = models() / "wide_state"
    folder.mkdir()
    (folder / "build.py").write_text(WIDE)
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", SAVE, str(folder)], env=PREPARED, check=True)
    return folder


@cache
def answers() -> dict[str, Answer]:
    options = {"input_specs": IMAGE, "output_specs": [spec("output_0", "float32", 1, 5)], "budget_minutes": 0.05}
    files = {"model": wide_model(), "calibration": calibration(IMAGE, 48)}
    tiny = sources()[Format.TORCH_STATE_DICT]
    calls = {
        "wide": Call(STAGE, files, options),
        "tiny": call(STAGE, tiny, calibration=calibration(tiny.inputs)),
    }
    return run_in("builder", calls)


def test_channels_go_and_the_answers_are_recovered() -> None:
    facts = answers()["wide"].facts

    assert facts["parameters"] < 0.7 * facts["parameters_before"]
    assert facts["loss_after"] < facts["loss_before"]
    assert facts["sqnr_db"] >= 3.0
    assert np.isfinite([facts["loss_before"], facts["loss_after"]]).all()


def test_outputs_keep_their_shapes_and_the_program_goes_on_to_onnx() -> None:
    first = answers()["wide"]
    contract = decode(Contract, first.result["contract"])
    options = {"input_specs": IMAGE, "output_specs": [spec("output_0", "float32", 1, 5)]}
    onward = Call("torch-exported-program-to-onnx", {"model": first.output("model")}, options, first.result["contract"])
    found = run_in("builder", {"onnx": onward})["onnx"]

    assert contract.outputs[0].artifact.static_shape == (1, 5)
    assert found.facts["sqnr_db"] >= 60.0


def test_a_model_whose_every_channel_is_an_outputs_is_refused() -> None:
    failure = answers()["tiny"].failure

    assert failure["code"] == "conversion-failed"
    assert "No channel of this model can be removed" in failure["message"]
    assert "conv, head" in failure["message"]
