"""`farm compare` and `farm recompute`, on reports in files and of jobs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farm.cli.main import run
from tests import report_samples as samples
from tests.farm_double import TOKEN, farm_double, job_view
from tests.measurement_samples import QUIET, measured, summary_of

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a report whose digits take 2 ms times a factor, and give its path."""

    def made(name: str, *factors: float, recipes: tuple[str, ...] = ("float32", "int8-static"), **changes: Any) -> str:
        generator = random.Random(name)
        results = [
            samples.result(recipe, execution_summary=summary_of(measured(generator, QUIET, factor=factor)), **changes)
            for recipe, factor in zip(recipes, factors, strict=False)
        ]
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(samples.report(*results)))
        return str(path)

    return made


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(arguments)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_each_matching_result_is_compared_and_a_regression_is_exit_code_1(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = told(capsys, "compare", write("before", 1.0, 1.0), write("after", 1.2, 0.8), "--json")
    changes = {one["after"].rpartition("/")[2]: one for one in json.loads(out)}
    assert code == 1
    assert changes["float32"]["change"] == "regressed"
    assert changes["int8-static"]["change"] == "improved"
    assert changes["float32"]["ratio"] == pytest.approx(1.2, rel=0.05)
    assert changes["float32"]["ratio_ci95"][0] < 1.2 < changes["float32"]["ratio_ci95"][1]


def test_equals_are_inconclusive_and_exit_code_0(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = told(capsys, "compare", write("before", 1.0), write("after", 1.0))
    assert code == 0
    assert "inconclusive" in out
    assert "wall time / reference" in out


def test_different_hosts_are_refused_and_named_unless_asked_for(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    other = samples.conditions() | {"host": "bench-2"}
    before, after = write("before", 1.0), write("after", 1.3, conditions=other)
    code, out = told(capsys, "compare", before, after)
    assert code == 2
    assert "bench-1 and on bench-2" in out.replace("\n", " ")
    code, out = told(capsys, "compare", before, after, "--across-hosts")
    assert code == 1
    assert "across hosts" in out


def test_times_of_an_emulated_host_tell_nothing(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    emulated = samples.conditions(valid=False, reasons=("emulated",), emulated=True)
    code, out = told(capsys, "compare", write("before", 1.0), write("after", 2.0, conditions=emulated))
    assert code == 0
    assert "inconclusive" in out
    assert "emulated" in out


def test_a_throttled_host_tells_nothing_and_a_loaded_one_is_labelled(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    throttled = samples.conditions(valid=False, reasons=("throttled",))
    loaded = samples.conditions(valid=False, reasons=("loaded",))
    _, out = told(capsys, "compare", write("before", 1.0), write("after", 2.0, conditions=throttled))
    assert "the host was not itself: throttled" in out.replace("\n", " ")
    code, out = told(capsys, "compare", write("before", 1.0), write("after", 2.0, conditions=loaded))
    assert code == 1
    assert "compared by processor time" in out


def test_different_work_is_not_compared(write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    after = json.loads(Path(write("after", 2.0)).read_text())
    after["results"][0]["execution_summary"]["threads"] = 4
    (tmp_path / "threads.json").write_text(json.dumps(after))
    code, out = told(capsys, "compare", write("before", 1.0), str(tmp_path / "threads.json"))
    assert code == 0
    assert "measured with threads 4, before with 1" in out.replace("\n", " ")


def test_one_result_of_a_job_is_held_against_another(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = json.loads(Path(write("job", 1.0, 0.5)).read_text())
    with farm_double() as double:
        monkeypatch.setenv("FARM_URL", double.url)
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        double.answers["GET /v1/jobs/j-1"] = (200, job_view(state="succeeded"))
        double.answers["GET /v1/jobs/j-1/report"] = (200, report)
        name = "j-1:digits/x86-64-v3/onnxruntime"
        code, out = told(capsys, "compare", f"{name}/float32", f"{name}/int8-static", "--json")
        assert (code, json.loads(out)[0]["change"]) == (0, "improved")
        code, out = told(capsys, "compare", f"{name}/float33", f"{name}/int8-static")
        assert code == 2
        assert "it has digits/x86-64-v3/onnxruntime/float32" in out.replace("\n", " ")


def test_the_document_published_beside_a_result_is_a_report_of_one(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    published = []
    for name, factor in (("before", 1.0), ("after", 1.2)):
        (body,) = json.loads(Path(write(name, factor)).read_text())["results"]
        published.append(tmp_path / name)
        published[-1].write_text(json.dumps(body))
    assert told(capsys, "compare", *map(str, published))[0] == 1


def test_a_file_that_is_no_report_is_refused(write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"hello": 1}')
    code, out = told(capsys, "compare", write("before", 1.0), str(tmp_path / "other.json"))
    assert code == 2
    assert "is no report of this farm" in out


def test_reports_without_a_common_result_are_refused(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    one = write("before", 1.0, 1.0)
    other = write("after", 1.0, 1.0, model="faces")
    code, out = told(capsys, "compare", one, other)
    assert code == 2
    assert "must be the same" in out.replace("\n", " ")


def test_statistics_that_the_samples_give_are_confirmed(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = told(capsys, "recompute", write("report", 1.0))
    assert code == 0
    assert "all as reported" in out


def test_a_statistic_that_was_tampered_with_is_shown(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = json.loads(Path(write("report", 1.0)).read_text())
    report["results"][0]["execution_summary"]["p90"] *= 0.99
    (tmp_path / "tampered.json").write_text(json.dumps(report))
    code, out = told(capsys, "recompute", str(tmp_path / "tampered.json"), "--json")
    assert code == 1
    assert [one["field"] for one in json.loads(out)["differences"]] == ["p90"]


@pytest.mark.parametrize(
    ("results", "missing"),
    [
        ([], "it has no result"),
        ([samples.failed_result()], "digits/x86-64-v3/litert/int8-static: failed"),
        ([samples.result(execution_summary=None)], "lacks execution_summary.all_inference_times of digits/x86-64-v3"),
        ([samples.result(execution_summary=samples.summary(all_inference_times=[]))], "lacks execution_summary"),
        ([samples.result(execution_summary=samples.summary(all_inference_times=[[5.0], []]))], "lacks execution_summ"),
        ([samples.result(), samples.result("int8-static", execution_summary=None)], "onnxruntime/int8-static: nothing"),
    ],
    ids=["no result", "failed", "no summary", "no run", "an empty run", "one of two"],
)
def test_a_report_without_samples_is_no_report_that_is_right(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, results: list[dict[str, Any]], missing: str
) -> None:
    (tmp_path / "bare.json").write_text(json.dumps(samples.report(*results)))
    code, out = told(capsys, "recompute", str(tmp_path / "bare.json"))
    assert code == 2
    assert missing in out.replace("\n", " ")
