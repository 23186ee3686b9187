"""Planning from what the inspections found, on a real PostgreSQL."""

from __future__ import annotations

from sqlalchemy import select

from farm import catalog
from farm.control.planning import plan_job
from farm.domain.codec import encode
from farm.domain.errors import CorruptModel, UnsafeModel
from farm.intake import inspections
from farm.ledger import hosts, jobs, steps
from farm.ledger.tables import Step
from farm.wire.jobs import JobRequest
from tests.control_fixtures import PROJECT, Farm, attest, farm, whole_farm

__all__ = ["farm", "whole_farm"]
FILE = {"sha256": "0" * 64, "size_bytes": 1}


def model(name: str) -> dict[str, object]:
    return {"file_name": name, "artifact": {"files": [FILE | {"name": name}]}}


def test_equal_bytes_under_two_formats_have_an_inspection_each(farm: Farm) -> None:
    said = {"models": [model("one.onnx"), model("two.tflite")], "targets": ["x86-64-v3"], "runtimes": ["onnxruntime"]}
    request = JobRequest.model_validate(said)
    failures = {"inspect-onnx": CorruptModel("It is no ONNX."), "inspect-tflite": UnsafeModel("It is no TFLite.")}
    with farm.ledger.transaction() as session:
        locks = catalog.catalogue().locks
        attest(
            session, **{"lock": locks["builder"], **{name: lock for name, lock in locks.items() if name != "builder"}}
        )
        job, _ = jobs.accept(session, PROJECT, request.model_dump(mode="json"), request_digest="same")
        world = catalog.world(hosts.live_hosts(session, grace_s=60))
        steps.enlist(session, job, [step for given in request.models for step in inspections(given, world)])
        session.flush()
        for step in session.scalars(select(Step)):
            step.phase, step.failure = "failed", encode(failures[step.stage].failure)
        session.flush()

        assert plan_job(session, job, farm.config)

    assert {(reason["model"], reason["code"]) for reason in job.reasons} == {
        ("one", "corrupt-model"),
        ("two", "unsafe-model"),
    }
