"""The farm's main job, as a user meets it: by command line, SDK and HTTP, through all real parts."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from farm.report.schema import violations
from tests.acceptance.conftest import Farm


def test_a_torch_program_comes_out_for_both_runtimes(farm: Farm, tmp_path: Path) -> None:
    code, report = farm.submit(str(farm.models / "tiny.pt2"), "--runtime", "onnxruntime", "--runtime", "litert")

    assert code == 0
    assert violations(report) == []
    assert report["state"] == "succeeded"
    assert {r["target_runtime"] for r in report["results"]} >= {"onnxruntime", "litert"}
    for result in report["results"]:
        assert result["numerics"]["sqnr_db"] >= 60
        assert len(result["execution_summary"]["all_inference_times"]) >= 3
        assert result["conditions"]["emulated"] is False
        assert all(step["isolation"] == "full" for step in result["steps"])
        assert all(step["reproduce"] for step in result["steps"] if "-to-" in step["stage"])

    downloaded = farm.command("download", report["job"], "--to", str(tmp_path))
    assert downloaded.returncode == 0, downloaded.stderr
    for result in report["results"]:
        folder = tmp_path / result["model"] / result["target"] / result["target_runtime"] / result["recipe"]
        manifest = json.loads((folder / "manifest.json").read_text())
        for file in manifest["files"]:
            assert hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest() == file["sha256"]
        assert (folder / "report.html").read_text().startswith("<!")


def test_weights_and_a_builder_file_come_out_as_tflite(farm: Farm) -> None:
    """Given the classic first network as tutorials save it."""
    code, report = farm.submit(
        str(farm.models / "mnist.pth"), "--builder", str(farm.models / "build_mnist.py"),
        "--input", "input:float32[1,784]", "--runtime", "litert",
    )  # fmt: skip

    assert code == 0, report["reasons"]
    (result,) = report["results"]
    assert result["verdict"] != "failed"
    assert result["numerics"]["sqnr_db"] >= 60
    (given,) = result["artifact"]["inputs"]
    assert given["shape"] == [1, 784]
    assert f"input input: renamed to {given['name']}" in result["artifact"]["contract_changes"]


def test_what_the_first_route_fails_on_the_next_one_takes(farm: Farm) -> None:
    """Given a module that branches on its values, which torch.export refuses and a trace freezes."""
    code, report = farm.submit(
        str(farm.models / "branching.pth"), "--builder", str(farm.models / "build_branching.py"),
        "--input", "x:float32[1,8]", "--runtime", "onnxruntime",
    )  # fmt: skip
    assert code == 0, report["reasons"]
    (result,) = report["results"]
    by_program, by_trace = result["routes"]
    first, second = result["route_failures"]
    assert by_program[0] == "torch-state-dict-to-torch-exported-program"
    assert by_trace == ["torch-state-dict-to-torchscript", "torchscript-to-onnx"]
    assert "data-dependent" in first
    assert second is None
    lost = next(step for step in result["steps"] if step["state"] == "failed")
    assert lost["stage"] == by_program[0]
    assert (lost["evidence"]["tool"], lost["evidence"]["version"][:6]) == ("torch", "2.13.0")
    assert lost["arguments"] == {}
    assert lost["evidence"]["knowledge"] == "torch-data-dependent"
    assert f'"stage": "{lost["stage"]}"' in lost["reproduce"]
    assert "work/call.json" in lost["reproduce"]
    log = farm.command("logs", report["job"], "--step", lost["stage"])
    assert log.returncode == 0, log.stderr
    assert "torch.ops.aten.item" in log.stdout, "what torch.export had traced when it gave up"


def test_a_failure_on_every_route_is_explained_by_its_operator(farm: Farm) -> None:
    """Given TorchScript with an operator that no converter has a form of."""
    code, report = farm.submit(str(farm.models / "bessel.pt"), "--input", "x:float32[1,8]", "--runtime", "onnxruntime")

    assert code != 0
    assert report.get("results"), report
    (result,) = report["results"]
    told = farm.command("explain", report["job"]).stdout
    assert (result["verdict"], result["who_must_act"]) == ("failed", "toolchain")
    assert "Stage torchscript-to-onnx failed" in told
    assert "The message names operator aten::special_bessel_j0" in told
    assert f"farm logs {report['job']} --step torchscript-to-onnx" in told


def test_a_resubmission_repeats_nothing_where_an_age_is_allowed(farm: Farm) -> None:
    model = str(farm.models / "tiny-0.onnx")
    _, first = farm.submit(model, "--runtime", "onnxruntime")

    code, second = farm.submit(model, "--runtime", "onnxruntime", "--max-measurement-age", "24h")

    assert code == 0
    assert all(step["reused"] for step in second["results"][0]["steps"])
    assert second["results"][0]["execution_summary"]["reused"] is True
    assert second["results"][0]["execution_summary"]["age_s"] > 0
    assert first["results"][0]["artifact"] == second["results"][0]["artifact"]


def test_one_bad_model_does_not_cost_the_others(farm: Farm) -> None:
    code, report = farm.submit(
        str(farm.models / "tiny-1.onnx"), str(farm.models / "truncated.onnx"), "--runtime", "onnxruntime"
    )

    assert code == 1
    assert report["state"] == "partial"
    verdicts = {r["model"]: r["verdict"] for r in report["results"]}
    assert verdicts["truncated"] == "failed"
    assert verdicts["tiny-1"] != "failed"
    assert violations(report) == []


@pytest.mark.slow
def test_equal_file_names_get_numbers(farm: Farm, tmp_path: Path) -> None:
    again = tmp_path / "tiny-2.onnx"
    again.write_bytes((farm.models / "tiny-3.onnx").read_bytes())

    _, report = farm.submit(str(farm.models / "tiny-2.onnx"), str(again), "--runtime", "onnxruntime")

    assert sorted(r["model"] for r in report["results"]) == ["tiny-2", "tiny-2-2"]


@pytest.mark.slow
def test_many_equal_submissions_convert_once(farm: Farm) -> None:
    def submit(_: int) -> str:
        job = farm.client.submit(farm.models / "tiny-4.onnx", targets=["auto"], runtimes=["litert"])
        return job.wait(timeout=240).id

    with ThreadPoolExecutor(6) as pool:
        jobs = set(pool.map(submit, range(6)))

    assert len(jobs) == 6
    executed = farm.sql(
        "SELECT s.stage, s.queue, count(DISTINCT a.id) FROM step s JOIN attempt a ON a.step_id = s.id"
        " JOIN job_step j ON j.step_id = s.id WHERE j.job_id = ANY(:jobs) GROUP BY s.stage, s.queue",
        jobs=list(jobs),
    )
    for stage, queue, attempts in executed:
        assert attempts == (len(jobs) if stage.startswith("measure-") else 1), (stage, queue)


def test_an_idempotency_key_brings_one_job(farm: Farm) -> None:
    headers = {"Authorization": f"Bearer {farm.info.token}", "Idempotency-Key": "acceptance-1"}
    job = farm.client.submit(farm.models / "tiny-0.onnx", targets=["auto"], runtimes=["onnxruntime"])
    ((request,),) = farm.sql("SELECT request FROM job WHERE id = :id", id=job.id)

    first = httpx.post(f"{farm.info.api}/v1/jobs", json=request, headers=headers)
    second = httpx.post(f"{farm.info.api}/v1/jobs", json=request, headers=headers)
    other = httpx.post(f"{farm.info.api}/v1/jobs", json=request | {"name": "other"}, headers=headers)

    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["job"] == second.json()["job"]
    assert other.headers["content-type"] == "application/problem+json"


def test_flower_shows_what_a_person_understands(farm: Farm) -> None:
    farm.submit(str(farm.models / "tiny-5.onnx"), "--runtime", "onnxruntime")
    farm.submit(str(farm.models / "custom.onnx"), "--runtime", "onnxruntime")

    access = farm.info.flower
    tasks = httpx.get(f"{access.url}/api/tasks?limit=10000", auth=(access.user, access.password)).json().values()

    assert httpx.get(f"{access.url}/api/tasks").status_code == 401
    assert any("measure-onnxruntime · tiny-5" in task["name"] and task["state"] == "SUCCESS" for task in tasks)
    assert any(task["state"] == "FAILURE" and "custom-operator" in (task["exception"] or "") for task in tasks)


def test_a_retry_is_a_new_job_that_names_the_old_one(farm: Farm) -> None:
    job = farm.client.submit(farm.models / "custom.onnx", targets=["auto"], runtimes=["onnxruntime"]).wait(timeout=60)

    retried = job.retry().wait(timeout=60)

    assert retried.id != job.id
    assert retried.raw_report()["retry_of"] == job.id
