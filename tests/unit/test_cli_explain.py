"""`farm explain` against a scripted farm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.cli.main import run
from farm.client import Client
from tests import report_samples as samples
from tests.farm_double import TOKEN, FarmDouble, farm_double, job_view


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FarmDouble]:
    with farm_double() as made:
        monkeypatch.setenv("FARM_URL", made.url)
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.chdir(tmp_path)
        made.answers["GET /v1/jobs/j-1"] = (200, job_view(state="partial"))
        made.answers["GET /v1/jobs/j-1/report"] = (200, samples.full_report())
        yield made


def test_it_tells_each_story_in_eighty_columns(double: FarmDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "j-1"]) == 0

    out = capsys.readouterr().out
    prose = [line for line in out.splitlines() if not line.startswith(("    ", "  $", "digits"))]
    assert "digits/x86-64-v3/litert/int8-static: failed" in out
    assert out.count("Next: ") == 5
    assert max(len(line) for line in prose) <= 80
    assert "\x1b" not in out


def test_one_result_can_be_chosen(double: FarmDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "j-1", "raspberry-pi-5/onnxruntime", "--json"]) == 0

    (story,) = json.loads(capsys.readouterr().out)
    assert story["result"] == "digits/raspberry-pi-5/onnxruntime/float32"
    assert story["verdict"] == "invalid-measurement"
    assert story["command"] == "farm retry j-7f3a9c --wait"


def test_an_unknown_result_names_near_ones(double: FarmDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "j-1", "digits/x86-64-v3/litert/int8-dynamic"]) == 2

    assert "did you mean digits/x86-64-v3/litert/int8-static" in " ".join(capsys.readouterr().err.split())


def test_good_results_need_no_story(double: FarmDouble, capsys: pytest.CaptureFixture[str]) -> None:
    double.answers["GET /v1/jobs/j-1"] = (200, job_view(state="succeeded"))
    double.answers["GET /v1/jobs/j-1/report"] = (200, samples.report(samples.result()))

    assert run(["explain", "j-1"]) == 0

    ran = capsys.readouterr()
    assert ran.out == ""
    assert "none of its 1 results is failed or poor." in ran.err


def test_the_sdk_tells_them_too(double: FarmDouble) -> None:
    with Client() as client:
        stories = client.job("j-1").explain()

    assert [story.verdict for story in stories].count("failed") == 1
