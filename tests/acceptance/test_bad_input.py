"""Bad input: a clear error, who must act, and the next job runs fine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm

MODELS = {
    "mystery.xyz": ("unknown-format", "known endings are"),
    "truncated.onnx": ("corrupt-model", "truncated"),
    "empty.onnx": ("corrupt-model", "empty"),
    "external": ("missing-file", "weights.bin"),
    "open-axis.onnx": ("open-axis", "width"),
    "custom.onnx": ("custom-operator", "Sparkle"),
    "pickle.pt": ("unsafe-model", "pickle"),
    "hostile.pt2": ("unsafe-model", "run code"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_bad_model_is_refused_with_its_reason(farm: Farm, name: str) -> None:
    code, words = MODELS[name]

    exit_code, report = farm.submit(str(farm.models / name), "--runtime", "onnxruntime")

    assert exit_code == 2
    assert report["state"] == "refused"
    (reason,) = report["reasons"]
    assert (reason["code"], reason["who_must_act"]) == (code, "submitter")
    assert words in reason["message"]
    assert "Traceback" not in json.dumps(report)
    assert not Path("/tmp/farm-acceptance-pwned").exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("wrong-shape.npz", "[32, 1, 5]"),
        ("wrong-dtype.npz", "float64"),
        ("wrong-name.npz", "no array 'x'"),
        ("pickled.npz", "Array 'x' of the data file holds pickled Python objects"),
    ],
)
def test_bad_calibration_is_refused(farm: Farm, data: str, words: str) -> None:
    exit_code, report = farm.submit(
        str(farm.models / "tiny-6.onnx"), "--recipe", "int8-static", "--calibration", str(farm.models / data)
    )

    assert exit_code == 2
    assert report["reasons"][0]["code"] == "bad-data"
    assert words in report["reasons"][0]["message"]
    assert report["reasons"][0]["who_must_act"] == "submitter"


def test_every_wrong_name_is_said_at_once(farm: Farm) -> None:
    done = farm.command(
        "submit", str(farm.models / "tiny-6.onnx"), "--target", "raspbery-pi-4", "--runtime", "onnxrt",
        "--recipe", "int8", "--wait", "--json",
    )  # fmt: skip

    assert done.returncode == 2
    messages = " ".join(reason["message"] for reason in json.loads(done.stdout)["reasons"])
    assert "raspberry-pi-4" in messages
    assert "onnxruntime" in messages
    assert "int8-static" in messages


def test_a_target_without_a_live_host_is_refused_at_submission(farm: Farm) -> None:
    done = farm.command("submit", str(farm.models / "tiny-6.onnx"), "--target", "raspberry-pi-4", "--wait", "--json")

    assert done.returncode == 2
    (reason,) = json.loads(done.stdout)["reasons"]
    assert (reason["code"], reason["who_must_act"]) == ("no-live-host", "operator")


def test_a_recipe_without_its_data_is_refused(farm: Farm) -> None:
    exit_code, report = farm.submit(str(farm.models / "tiny-6.onnx"), "--recipe", "int8-static")

    assert exit_code == 2
    assert "--calibration" in report["reasons"][0]["remedy"]


def test_a_file_over_the_limit_is_refused(farm: Farm) -> None:
    large = farm.models / "large.onnx"
    with large.open("wb") as opened:
        opened.truncate((64 << 20) + 1)

    done = farm.command("submit", str(large), "--target", "auto", "--json")
    large.unlink()

    assert done.returncode == 2
    assert "67108864" in done.stderr


def test_a_model_that_never_ends_is_stopped(farm: Farm) -> None:
    done = farm.client.submit(
        farm.models / "endless.onnx", targets=["auto"], runtimes=["onnxruntime"], max_runtime_seconds=3
    ).wait(timeout=120)

    (result,) = done.results
    assert result.verdict == "failed"
    assert (result.failure_type, result.who_must_act) == ("bad-request", "submitter")
    assert "did not end within 3 s and was stopped (reference-onnx)" in (result.message or "")
    assert "nothing replaces it" in (result.remedy or "")


def test_a_name_with_escapes_is_refused(farm: Farm) -> None:
    done = farm.command("submit", str(farm.models / "bold\x1b[31m.onnx"), "--target", "auto", "--json")

    assert done.returncode == 2
    assert "no file name should" in done.stderr
    assert "\x1b[31m" not in done.stderr


def test_a_name_with_markup_does_no_harm(farm: Farm) -> None:
    exit_code, report = farm.submit(str(farm.models / "<b>bold.onnx"), "--runtime", "onnxruntime")

    page = farm.models / "page.html"
    assert exit_code == 0
    assert farm.command("report", report["job"], "--html", str(page)).returncode == 0
    assert "&lt;b&gt;bold" in page.read_text()
    assert "<b>bold" not in page.read_text()


def test_after_all_that_a_good_job_runs(farm: Farm) -> None:
    exit_code, report = farm.submit(
        str(farm.models / "open-batch.onnx"), "--recipe", "int8-static", "--recipe", "float32",
        "--runtime", "onnxruntime", "--runtime", "litert", "--calibration", str(farm.models / "good.npz"),
    )  # fmt: skip

    assert exit_code == 0
    assert len(report["results"]) == 4
    assert any("fixed at 1" in change for change in report["results"][0]["artifact"]["contract_changes"])
