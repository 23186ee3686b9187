"""The harness answers every call in result.json: outputs, or a failure with who must act."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.domain.artifact import Binding, Contract
from farm.domain.codec import encode
from farm.domain.errors import OpenAxis
from farm.domain.facts import TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, StageSpec, always
from workers.stages import harness
from workers.stages.npz import NpzWriter

Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Run one function as a stage through the harness, and return result.json."""

    works = (tmp_path / str(number) for number in count())

    def call(run: Callable[[StageInput], StageOutput], **message: Any) -> dict[str, Any]:
        work = next(works)
        work.mkdir()
        spec = StageSpec("under-test", "1", Kind.CONVERT, "builder", run, always, tools=("numpy", "not-installed"))
        monkeypatch.setattr(harness, "load_specs", lambda: {spec.name: spec})
        (work / "call.json").write_text(json.dumps({"stage": "under-test"} | message))
        harness.main(work)
        result: dict[str, Any] = json.loads((work / "result.json").read_text())
        return result

    return call


def test_a_real_stage_answers_with_facts(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((4, 3), np.float32))
    (tmp_path / "call.json").write_text(json.dumps({"stage": "inspect-npz", "files": {"model": "data.npz"}}))
    harness.main(tmp_path)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["facts"]["samples"] == 4
    assert result["facts"]["arrays"]["x"].items() >= {"dtype": "float32", "shape": [4, 3], "constant": True}.items()
    assert result["tool_versions"] == {"numpy": np.__version__}


def test_outputs_are_named_relative_to_the_work_folder(answer: Answer) -> None:
    def run(given: StageInput) -> StageOutput:
        assert given.work.is_dir()
        assert list(given.work.iterdir()) == []
        target = given.work / "model.bin"
        target.write_bytes(given.files["model"].read_bytes()[::-1])
        return StageOutput({"model": target}, {"n": 1}, given.contract, "tool model.bin")

    tensor = TensorSpec("x", "float32", (1, 2))
    contract = encode(Contract((Binding(tensor, tensor),), (Binding(tensor, tensor, (1, 0)),), ("note",)))
    result = answer(run, files={"model": __file__}, contract=contract)
    assert result["outputs"] == {"model": "out/model.bin"}
    assert result["contract"] == contract
    assert result["reproduce"] == "tool model.bin"
    assert result["tool_versions"] == {"numpy": np.__version__}


def test_a_farm_error_is_the_failure(answer: Answer) -> None:
    def run(given: StageInput) -> StageOutput:
        raise OpenAxis("axis 0 is \x1b[31mopen\x1b[0m", remedy="--input x", axis=0, name="a\x07b")

    failure = answer(run)["failure"]
    assert failure == {
        "code": "open-axis",
        "message": "axis 0 is open",
        "who_must_act": "submitter",
        "retryable": False,
        "remedy": "--input x",
        "evidence": {"axis": 0, "name": "ab"},
    }


def test_our_own_mistake_is_a_bug_with_its_traceback(answer: Answer, capfd: pytest.CaptureFixture[str]) -> None:
    """The stage fails in workers.stages.npz, which opens no such file."""

    def run(given: StageInput) -> StageOutput:
        NpzWriter(given.work / "absent" / "x.npz").append("x", np.zeros(2), count=1)
        return StageOutput()

    failure = answer(run)["failure"]
    assert (failure["code"], failure["who_must_act"]) == ("farm-bug", "us")
    assert "npz.py" in failure["evidence"]["traceback"]
    assert "FileNotFoundError" in capfd.readouterr().err


def test_an_output_that_does_not_exist_is_a_bug(answer: Answer) -> None:
    assert answer(lambda given: StageOutput({"model": given.work / "absent"}))["failure"]["code"] == "farm-bug"


def test_a_foreign_error_blames_the_toolchain(answer: Answer, capfd: pytest.CaptureFixture[str]) -> None:
    """Anything that neither the farm nor the standard library nor NumPy raises counts as a tool's."""

    def run(given: StageInput) -> StageOutput:
        raise RuntimeError("lowering \x1b[1mfailed")

    failure = answer(run)["failure"]
    assert (failure["code"], failure["who_must_act"]) == ("conversion-failed", "toolchain")
    assert failure["message"] == "RuntimeError: lowering failed"
    assert "Traceback" in capfd.readouterr().err


def test_a_tool_that_exits_is_a_failure_too(answer: Answer) -> None:
    def run(given: StageInput) -> StageOutput:
        raise SystemExit(3)

    assert "SystemExit" in answer(run)["failure"]["message"]


def test_facts_that_are_not_json_are_a_bug(answer: Answer) -> None:
    assert answer(lambda given: StageOutput(facts={"x": float("nan")}))["failure"]["code"] == "farm-bug"


def test_an_unknown_stage_is_a_bug(answer: Answer) -> None:
    assert answer(lambda given: StageOutput(), stage="absent")["failure"]["code"] == "farm-bug"


def test_an_unknown_option_is_named(answer: Answer) -> None:
    failure = answer(lambda given: StageOutput(), options={"nonsense": 1})["failure"]
    assert failure["code"] == "bad-request"
    assert "nonsense" in failure["message"]
