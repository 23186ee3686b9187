"""Kill any process, flush Redis, at seeded points over every state of a step: jobs are delayed, never lost.

The checker at the end looks at ledger and bucket by itself, with SQL and boto3.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import boto3
import pytest
from redis import Redis

from farm.client import Job
from tests.acceptance.conftest import Farm
from workers.sandbox.processes import descendants

STATES = ("waiting", "ready", "published", "running", "succeeded")
PARTS = ("worker", "api", "control", "redis", "s3", "zygote", "flush")
FAULTS_A_JOB = 3
RESUME_WITHIN_S = 30.0
ENDED = ("succeeded", "partial", "failed", "refused", "cancelled")


def faults(seed: int, jobs: int) -> list[list[tuple[str, str]]]:
    """Draw three faults a job, each a part and the state a step is in then; no part and no state is left out."""
    chance = random.Random(seed)
    parts = [PARTS[number % len(PARTS)] for number in range(jobs * FAULTS_A_JOB)]
    chance.shuffle(parts)
    drawn = [sorted(chance.sample(STATES, FAULTS_A_JOB), key=STATES.index) for _ in range(jobs)]
    assert {state for states in drawn for state in states} == set(STATES)
    return [[(parts.pop(), state) for state in states] for states in drawn]


def strike(farm: Farm, part: str) -> Callable[[], None]:
    """Do the harm; return what waits until the part is back."""
    if part == "flush":
        Redis.from_url(farm.info.redis).flushall()
        return lambda: None
    if part == "zygote":
        for zygote in zygotes(farm):
            with suppress(ProcessLookupError):  # a run's child has the same command and may have ended meanwhile
                os.kill(zygote, signal.SIGKILL)
        return lambda: None
    old = farm.stack.kill(part)
    return lambda: (farm.stack.await_restart(part, old), None)[1]


def zygotes(farm: Farm) -> list[int]:
    """Find the zygotes of the farm's own worker."""
    found = []
    for process in descendants(farm.stack.pid("worker")):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"workers.sandbox.zygote" in words:
            found.append(process)
    return found


def wait_for_state(farm: Farm, job: Job, state: str) -> None:
    """Wait until a step of the job is in a state; states that pass too quickly to be seen count as passed."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        phases = {
            phase
            for (phase,) in farm.sql(
                "SELECT s.phase FROM step s JOIN job_step j ON j.step_id = s.id WHERE j.job_id = :job", job=job.id
            )
        }
        if state in phases or (phases and phases <= {"succeeded"}):
            return
        time.sleep(0.01)


def check_ledger(farm: Farm, jobs: list[str]) -> None:
    for job in jobs:
        ((state, ended),) = farm.sql("SELECT state, ended FROM job WHERE id = :job", job=job)
        assert state == "succeeded", (job, state)
        assert ended is not None
        ends = farm.sql(
            "SELECT count(*) FROM event WHERE job_id = :j AND kind = 'job' AND data->>'state' = ANY(:e)",
            j=job,
            e=list(ENDED),
        )
        assert ends[0][0] == 1, f"{job} ended {ends[0][0]} times"
    twice = farm.sql("SELECT key FROM step WHERE phase = 'succeeded' GROUP BY project_id, key HAVING count(*) > 1")
    assert twice == []
    completions = farm.sql("SELECT step_id FROM attempt WHERE state = 'succeeded' GROUP BY step_id HAVING count(*) > 1")
    assert completions == []
    open_steps = farm.sql("SELECT id, phase FROM step WHERE phase NOT IN ('succeeded','failed','skipped','cancelled')")
    assert open_steps == []
    assert farm.sql("SELECT id FROM attempt WHERE state IN ('running', 'stopping')") == []


def check_bucket(farm: Farm, jobs: list[str]) -> int:
    access = farm.info.s3
    s3 = boto3.client(
        "s3", endpoint_url=access.endpoint, region_name="us-east-1",
        aws_access_key_id=access.access_key, aws_secret_access_key=access.secret_key,
    )  # fmt: skip
    checked = 0
    for job in jobs:
        bodies = farm.sql("SELECT body, documents FROM result WHERE job_id = :job AND listed", job=job)
        for body, documents in bodies:
            folder = "/".join(body[part] for part in ("model", "target", "target_runtime", "recipe"))
            for file in [*body["artifact"]["files"], *documents]:
                key = f"jobs/{job}/{folder}/{file['name']}"
                published = s3.get_object(Bucket=access.bucket, Key=key)["Body"].read()
                assert hashlib.sha256(published).hexdigest() == file["sha256"], key
                checked += 1
    return checked


def left_over(farm: Farm) -> list[str]:
    """List work folders of attempts that have ended, and processes in the worker's folder that are not its own."""
    work = farm.stack.folder.root / "work"
    own, orphans = descendants(farm.stack.pid("worker")), []
    for process in Path("/proc").iterdir():
        try:
            inside = (process / "cwd").readlink().is_relative_to(work)
        except (OSError, ValueError):
            continue
        if process.name.isdecimal() and inside and int(process.name) not in own:
            orphans.append(f"process {process.name}")
    return [path.name for path in work.glob("attempt-*")] + orphans


def endure(farm: Farm, struck: list[list[tuple[str, str]]], first_model: int) -> list[str]:
    """Submit the jobs and strike; all of them must have ended well, once, with files of their digests.

    Returns: what attempts left behind, 10 s after the last job.
    """
    jobs = []
    for number, its_faults in enumerate(struck):
        model = farm.models / f"tiny-{first_model + number}.onnx"
        job = farm.client.submit(model, targets=["auto"], runtimes=["onnxruntime"])
        jobs.append(job.id)
        for part, state in its_faults:
            wait_for_state(farm, job, state)
            began = time.monotonic()
            strike(farm, part)()
            back_s = time.monotonic() - began
            resumed_s = until_moved(farm, job.id, progress(farm, job.id))
            print(f"{number:2} {part:8} at {state:10} back after {back_s:4.1f} s, moved after {resumed_s:4.1f} s more")
            assert resumed_s <= RESUME_WITHIN_S

    for job_id in jobs:
        farm.client.job(job_id).wait(timeout=120)

    check_ledger(farm, jobs)
    print(check_bucket(farm, jobs), "published files have the digests the report names")
    deadline = time.monotonic() + 10
    while left_over(farm) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left_over(farm)


@pytest.mark.timeout(600)
def test_no_job_is_lost(farm: Farm) -> None:
    assert endure(farm, faults(20261124, jobs=7), first_model=10) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_job_is_lost_in_many_faults(farm: Farm) -> None:
    assert endure(farm, faults(20261125, jobs=20), first_model=17) == []


def progress(farm: Farm, job: str) -> tuple[str, int]:
    """Tell how far a job is: its state and how many events it has."""
    ((state, count),) = farm.sql(
        "SELECT j.state, count(e.id) FROM job j LEFT JOIN event e ON e.job_id = j.id"
        " WHERE j.id = :job GROUP BY j.state",
        job=job,
    )
    return str(state), int(count)


def until_moved(farm: Farm, job: str, before: tuple[str, int]) -> float:
    """Wait for the next event of a job; nothing is to be waited for once it has ended."""
    started = time.monotonic()
    while progress(farm, job) == before and before[0] not in ENDED:
        if time.monotonic() - started > RESUME_WITHIN_S:
            break
        time.sleep(0.05)
    return time.monotonic() - started
