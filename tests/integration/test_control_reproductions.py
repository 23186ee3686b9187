"""A failed conversion's small reproduction: its step is made when the conversion fails, its file is published."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from farm.control.advance import advance_next
from farm.control.publishing import publish_next
from farm.domain.artifact import Artifact, FileRef
from farm.domain.codec import encode
from farm.domain.errors import ConversionFailed
from farm.domain.plan import Branch, Input, Plan, PlannedResult
from farm.ledger.events import wake
from farm.ledger.tables import Job, Result, Step
from tests.control_fixtures import Farm, farm, job_now, new_job, planned, whole_farm

__all__ = ["farm", "whole_farm"]
MODEL = Artifact((FileRef("m.onnx", "0" * 64, 1),))
REQUEST = {"models": [{"file_name": "m.onnx", "artifact": {"files": [encode(MODEL.files[0])]}}], "targets": ["t"]}
FOUND = {"nodes": 2, "original_nodes": 100, "signature": "conversion-failed: Loop", "attempts": 9}


def failing_job(farm: Farm) -> str:
    """Have a job whose only route failed at its converter."""
    keys = ("convert", "compare", "measure")
    branch = Branch(
        ("convert",), (), keys, Input("model", step="convert"), "compare", "measure",
        reproductions={"convert": "shrink"},
    )  # fmt: skip
    steps = {key: planned(key) for key in (*keys, "shrink")}
    steps["shrink"] = replace(steps["shrink"], stage="minimize-onnx", kind="minimize", options={"stage": "convert"})
    plan = Plan(steps, (PlannedResult("m", "t", "r", "float32", None, (branch,)),))
    with farm.ledger.transaction() as session:
        job = new_job(session, [plan.steps[key] for key in keys])
        job.plan, job.state, job.request = encode(plan), "running", REQUEST
        session.add(Result(job_id=job.id, position=0, listed=True))
        session.flush()
        step = session.scalars(select(Step).where(Step.key == "convert")).one()
        step.phase, step.failure = "failed", encode(ConversionFailed("It knows no Loop.").failure)
        return job.id


def advance(farm: Farm) -> None:
    while farm.ledger.run(lambda session: advance_next(session, farm.config)):
        pass


def test_a_failed_conversion_is_shrunk_and_its_file_published_with_the_result(farm: Farm) -> None:
    job = failing_job(farm)
    advance(farm)
    with farm.ledger.transaction() as session:
        shrinking = session.scalars(select(Step).where(Step.kind == "minimize")).one()
        assert shrinking.phase == "ready"
        assert session.get_one(Result, (job, 0)).concluded is False
        repro = farm.store.of(session.get_one(Job, job).project_id).put_blob(b"a zip", "repro.zip")
        shrinking.phase, shrinking.facts = "succeeded", FOUND
        shrinking.outputs = {"repro": encode(Artifact((repro,)))}
        wake(session, [job])

    advance(farm)
    while farm.ledger.run(lambda session: publish_next(session, farm.store)):
        pass
    advance(farm)

    assert job_now(farm, job).state == "failed"
    with farm.ledger.transaction() as session:
        body = session.get_one(Result, (job, 0)).body or {}
    assert body["message"] == "It knows no Loop."
    assert body["reproduction"] == {
        **FOUND, "file": "repro.zip", "stage": "convert", "sha256": repro.sha256, "size_bytes": repro.size_bytes,
    }  # fmt: skip
    published = {found.key for found in farm.store.list_prefix(f"jobs/{job}/")}
    assert f"jobs/{job}/m/t/r/float32/repro.zip" in published
