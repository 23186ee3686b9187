"""Cancelling: within two seconds no process of the step is left; what others want goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import Farm


def running_children(farm: Farm) -> list[int]:
    """Find processes whose current folder lies in the worker's work folder: children of a running step."""
    work = str(Path(farm.stack.folder.root) / "work" / "attempt-")
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and str((process / "cwd").readlink()).startswith(work):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def until(condition: object, within_s: float, what: str) -> float:
    """Wait for a condition; return the seconds it took."""
    assert callable(condition)
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, f"{what} took longer than {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - started


def reference_runs(farm: Farm, job: str) -> int:
    """Count the job's running references: the step that never ends."""
    ((count,),) = farm.sql(
        "SELECT count(*) FROM step s JOIN job_step j ON j.step_id = s.id"
        " WHERE j.job_id = :job AND s.phase = 'running' AND s.stage = 'reference-onnx'",
        job=job,
    )
    return int(count)


def test_cancelling_leaves_no_process_within_two_seconds(farm: Farm) -> None:
    job = farm.client.submit(farm.models / "endless.onnx", targets=["auto"], runtimes=["onnxruntime"])
    until(lambda: reference_runs(farm, job.id) and running_children(farm), 60, "the start of the endless step")

    cancelled = farm.command("cancel", job.id)
    took_s = until(lambda: not running_children(farm), 2.0, "the end of the step's processes")

    assert cancelled.returncode == 0, cancelled.stderr
    assert farm.client.job(job.id).state == "cancelled"
    assert farm.command("watch", job.id).returncode == 4
    print(f"processes gone {took_s:.2f} s after the answer")


@pytest.mark.slow
def test_a_run_of_the_source_that_crashes_is_told_as_such_and_the_worker_lives_on(farm: Farm) -> None:
    job = farm.client.submit(farm.models / "endless.onnx", targets=["auto"], runtimes=["onnxruntime"])
    try:
        until(lambda: reference_runs(farm, job.id) and running_children(farm), 60, "the start of the endless step")
        os.kill(max(running_children(farm)), signal.SIGSEGV)
        (result,) = job.wait(timeout=60).results
    finally:
        farm.command("cancel", job.id)

    assert (result.failure_type, result.who_must_act) == ("request-error", "submitter")
    assert "SIGSEGV" in (result.message or "")
    assert farm.submit(str(farm.models / "tiny-7.onnx"), "--runtime", "onnxruntime")[0] == 0


def test_a_step_that_another_job_wants_goes_on(farm: Farm) -> None:
    model = farm.models / "endless.onnx"
    first = farm.client.submit(model, targets=["auto"], runtimes=["onnxruntime"])
    until(lambda: reference_runs(farm, first.id), 60, "the first job's start")
    second = farm.client.submit(model, targets=["auto"], runtimes=["onnxruntime"])
    try:
        until(lambda: reference_runs(farm, second.id), 60, "the second job's share")

        first.cancel()
        time.sleep(2.5)

        assert reference_runs(farm, second.id)
    finally:
        second.cancel()
    until(lambda: not running_children(farm), 2.0, "the end of the step's processes")
