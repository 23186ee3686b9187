"""`farm compat`, on results of a job, on what was fetched of one, and on bare files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farm.cli.main import run
from farm.publication import manifest
from tests import report_samples as samples
from tests.farm_double import TOKEN, farm_double, job_view

IMAGE = {"name": "image", "dtype": "float32", "shape": [1, 3, 8, 8], "scale": None, "zero_point": None}
BYTES = IMAGE | {"dtype": "int8", "scale": 0.5, "zero_point": -3, "shape": [1, 8, 8, 3]}


def result(recipe: str, image: dict[str, Any], **changes: Any) -> dict[str, Any]:
    made = samples.result(recipe, **changes)
    return made | {"artifact": made["artifact"] | {"inputs": [image], "outputs": []}}


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(("compat", *arguments))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.fixture
def fetched(tmp_path: Path) -> dict[str, str]:
    """Lay two results out as `farm download` does, one with its report and one with its manifest alone."""
    for recipe, image in (("float32", IMAGE), ("int8-static", BYTES)):
        (tmp_path / recipe).mkdir()
        (tmp_path / recipe / "manifest.json").write_bytes(manifest("j-1", result(recipe, image)))
    (tmp_path / "float32" / "report.json").write_text(json.dumps(result("float32", IMAGE)))
    return {recipe: str(tmp_path / recipe) for recipe in ("float32", "int8-static")}


def test_what_an_application_has_to_do_is_told_with_exit_code_1(
    fetched: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = told(capsys, fetched["float32"], fetched["int8-static"])

    assert code == 1
    assert "float32 became int8" in out
    assert "feed round(value / 0.5) + -3" in out
    assert "transpose by [0, 2, 3, 1]" in out
    assert "An application written for A needs 3 changes." in out


def test_equals_fit_with_exit_code_0(fetched: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out = told(capsys, fetched["float32"] + "/report.json", fetched["float32"], "--json")

    assert code == 0
    assert json.loads(out) == {"compatible": True, "differences": []}


def test_results_of_a_job_and_bare_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.onnx").write_bytes(b"model")
    facts = {"format": "onnx", "inputs": [IMAGE | {"name": "picture"}], "outputs": []}
    with farm_double() as double:
        monkeypatch.setenv("FARM_URL", double.url)
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        report = samples.report(result("float32", IMAGE), result("int8-static", BYTES))
        double.answers["GET /v1/jobs/j-1"] = (200, job_view(state="succeeded"))
        double.answers["GET /v1/jobs/j-1/report"] = (200, report)
        view = {"model": "m-1", "digest": "0" * 64, "state": "inspected", "facts": facts, "failure": None}
        double.answers["POST /v1/models"] = (201, view)
        named = "j-1:digits/x86-64-v3/onnxruntime/"

        assert told(capsys, named + "float32", named + "int8-static")[0] == 1
        code, out = told(capsys, named + "float32", str(tmp_path / "new.onnx"))
        assert (code, "use the name picture" in out) == (1, True)
        code, out = told(capsys, "j-1", named + "float32")
        assert code == 2
        assert "names 2 results with an artifact" in out.replace("\n", " ")
        code, out = told(capsys, "j-1:none", named + "float32")
        assert (code, "it has digits/" in out.replace("\n", " ")) == (2, True)


def test_a_document_that_says_nothing_of_an_artifact_is_refused(
    tmp_path: Path, fetched: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text('{"folder": "x"}')

    code, out = told(capsys, str(tmp_path), fetched["float32"])
    assert (code, "does not say what the artifact is called with" in out.replace("\n", " ")) == (2, True)
