"""What a job shows of itself: it runs as soon as a step of its begins, and counts what was done before a cancel."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from farm.control.advance import advance_next
from farm.domain.artifact import Artifact, FileRef
from farm.domain.codec import encode
from farm.domain.plan import Branch, Input, Plan, PlannedResult
from farm.ledger import attempts, jobs
from farm.ledger.tables import Job, Result, Step
from tests.control_fixtures import HOST, PROJECT, Farm, farm, job_now, new_job, planned, whole_farm

__all__ = ["farm", "whole_farm"]
KEYS = ("convert", "compare", "measure")
MODEL = Artifact((FileRef("m.onnx", "0" * 64, 1),))
REQUEST = {"models": [{"file_name": "m.onnx", "artifact": {"files": [encode(MODEL.files[0])]}}], "targets": ["t"]}


def planned_job(farm: Farm) -> str:
    branch = Branch(("convert",), (), KEYS, Input("model", step="convert"), "compare", "measure")
    plan = Plan({key: planned(key) for key in KEYS}, (PlannedResult("m", "t", "r", "float32", None, (branch,)),))
    with farm.ledger.transaction() as session:
        job = new_job(session, tuple(plan.steps.values()))
        job.plan, job.state, job.request = encode(plan), "planned", REQUEST
        session.add(Result(job_id=job.id, position=0, listed=True))
        return job.id


def advance(farm: Farm) -> None:
    while farm.ledger.run(lambda session: advance_next(session, farm.config)):
        pass


def claim(farm: Farm, key: str = "convert") -> None:
    with farm.ledger.transaction() as session:
        step = session.scalars(select(Step).where(Step.key == key)).one().id
        attempts.claim(session, step_id=step, number=1, host=HOST, lease_s=20)


@pytest.mark.parametrize("jobs_with_it", [1, 2])
def test_a_job_runs_as_soon_as_a_step_that_it_wants_is_claimed(farm: Farm, jobs_with_it: int) -> None:
    ids = [planned_job(farm) for _ in range(jobs_with_it)]
    advance(farm)
    assert {job_now(farm, job).state for job in ids} == {"planned"}

    claim(farm)
    advance(farm)

    assert {job_now(farm, job).state for job in ids} == {"running"}


def test_a_cancelled_job_counts_the_steps_that_were_done(farm: Farm) -> None:
    job = planned_job(farm)
    advance(farm)
    claim(farm)
    with farm.ledger.transaction() as session:
        session.scalars(select(Step).where(Step.key == "convert")).one().phase = "succeeded"

    with farm.ledger.transaction() as session:
        jobs.cancel(session, PROJECT, job)

    with farm.ledger.transaction() as session:
        progress = jobs.view(session, session.get_one(Job, job)).progress
    assert (progress.steps_done, progress.steps_total) == (1, len(KEYS))
