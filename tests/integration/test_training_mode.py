"""Torch models left in training mode: every operator that shows it is named, and what only looks like it passes."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.stage_fixtures import PREPARED, ROOT

pytestmark = pytest.mark.toolchain

SCRIPT = """
import json, sys
import torch
from torch import nn
from farm.domain.errors import BadRequest
from workers.stages.training_mode import refuse_training_module, refuse_training_program

def said(refuse, graph):
    try:
        refuse(graph)
    except BadRequest as exc:
        return dict(exc.evidence)["operator"]

told = {}
for name, shape in json.loads(sys.argv[1]).items():
    module = nn.Sequential(eval(name, vars(nn)))
    module.train(module[0].training)
    arguments = (torch.rand(shape),)
    program, traced = torch.export.export(module, arguments), torch.jit.trace(module, arguments, check_trace=False)
    told[name] = [said(refuse_training_program, program), said(refuse_training_module, traced)]
print(json.dumps(told))
"""
TRAINING = {
    "Dropout()": "dropout",
    "Dropout(inplace=True)": "dropout_",
    "Dropout2d()": "feature_dropout",
    "Dropout2d(inplace=True)": "feature_dropout_",
    "AlphaDropout()": "alpha_dropout",
    "FeatureAlphaDropout()": "feature_alpha_dropout",
    "RReLU()": "rrelu",
    "BatchNorm2d(4)": "batch_norm",
    "InstanceNorm2d(4, track_running_stats=True)": "instance_norm",
    "LSTM(4, 4, 2, dropout=0.5)": "lstm",
}
HARMLESS = (
    "Dropout(inplace=True).eval()",
    "BatchNorm2d(4).eval()",
    "BatchNorm2d(4, track_running_stats=False).eval()",
    "InstanceNorm2d(4).eval()",
    "LSTM(4, 4, 2)",
)


@pytest.fixture(scope="module")
def told() -> dict[str, list[str | None]]:
    """Return the operator blamed in the program and in the trace of every module."""
    shapes = {name: [1, 3, 4] if "LSTM" in name else [1, 4, 4, 4] for name in (*TRAINING, *HARMLESS)}
    ran = subprocess.run(
        [ROOT / ".envs" / "builder" / "bin" / "python", "-c", SCRIPT, json.dumps(shapes)],
        cwd=ROOT,
        env=PREPARED,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, list[str | None]] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize(("name", "operator"), TRAINING.items())
def test_what_drops_or_follows_the_batch_is_named(told: dict[str, list[str | None]], name: str, operator: str) -> None:
    program, traced = told[name]

    assert (program or "").split(".")[:2] == ["aten", operator]
    assert traced == f"aten::{operator}"


@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_the_same_in_evaluation_passes(told: dict[str, list[str | None]], name: str) -> None:
    assert told[name] == [None, None]
