"""Hugging Face folders that are incomplete, damaged or hostile: each is told by name, and nothing of theirs runs."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, run_calls

pytestmark = pytest.mark.toolchain

INSPECT = "inspect-hugging-face"
HOSTILE = """
import os, sys, torch
class Hostile:
    def __reduce__(self):
        return os.system, ("touch " + sys.argv[1] + ".ran",)
torch.save({"a": Hostile()}, sys.argv[1])
"""
PYTHON = ROOT / ".envs" / "builder" / "bin" / "python"


def rewritten(folder: Path, **changes: object) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)


def without_last_shard(folder: Path) -> None:
    sorted(folder.glob("model-*.safetensors"))[-1].unlink()


def hostile(folder: Path) -> None:
    target = folder / "pytorch_model.bin"
    subprocess.run([PYTHON, "-c", HOSTILE, str(target)], env=PREPARED, check=True, timeout=60)


Spoil = Callable[[Path], object]
CASES: dict[str, tuple[str, Spoil, str, str]] = {
    "no config": ("bert", lambda at: (at / "config.json").unlink(), "missing-file", "no config.json"),
    "no weights": ("bert", lambda at: (at / "model.safetensors").unlink(), "missing-file", "model.safetensors"),
    "missing shard": ("sharded", without_last_shard, "missing-file", "missing: model-"),
    "unknown type": ("bert", lambda at: rewritten(at, model_type="berd"), "unknown-format", "'berd'; the nearest are"),
    "own code": ("bert", lambda at: rewritten(at, auto_map={"AutoModel": "own.Net"}), "unsafe-model", "own.Net"),
    "cut": ("bert", cut, "corrupt-model", "no complete safetensors file"),
    "pickle": ("pickled", hostile, "unsafe-model", "pickle that holds more than tensors"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("folders")
    code = "import sys; from pathlib import Path; from tests.hugging_face_models import hugging_face_models as make; "
    subprocess.run([PYTHON, "-c", code + "make(Path(sys.argv[1]))", str(made)], env=PREPARED, check=True, timeout=120)
    return made


@pytest.fixture(scope="module")
def answers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    calls = {}
    for name, (source, spoil, _, _) in CASES.items():
        spoilt = shutil.copytree(folder / source, folder / name)
        spoil(spoilt)
        calls[name] = Call(INSPECT, {"model": spoilt})
    calls |= {name: Call(INSPECT, {"model": folder / name}) for name in ("sharded", "pickled")}
    return run_calls("builder", calls, tmp_path_factory.mktemp("inspected"))


@pytest.mark.parametrize("name", CASES)
def test_refusal_says_what_and_who(answers: dict[str, Answer], name: str) -> None:
    _, _, code, says = CASES[name]
    failure = answers[name].failure
    assert failure["code"] == code, failure
    assert says in failure["message"]
    assert failure["who_must_act"] == "submitter"
    assert failure["remedy"]


def test_nothing_hostile_ran(answers: dict[str, Answer], folder: Path) -> None:
    assert answers
    assert not list(folder.rglob("*.ran"))


def test_shards_are_read_together(answers: dict[str, Answer]) -> None:
    facts = answers["sharded"].facts
    assert len(facts["extra"]["weights"]) > 1
    assert facts["extra"]["unused_weights"] == []


def test_a_pickle_of_tensors_is_read_and_a_head_that_the_class_lacks_is_told(answers: dict[str, Answer]) -> None:
    """Its config.json names no architecture, so the bare model is taken."""
    extra = answers["pickled"].facts["extra"]
    assert extra["architecture"] == "BertModel"
    assert extra["unused_weights"] == ["classifier.bias", "classifier.weight"]
