"""A job that can't be moved on or published ends alone, once, with its reason; the others go on."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from farm.control.advance import advance_next
from farm.control.publishing import publish_next
from farm.domain.artifact import Artifact, FileRef
from farm.domain.codec import encode
from farm.domain.plan import Branch, Input, Plan, PlannedResult
from farm.ledger import jobs
from farm.ledger.tables import Result, Step
from farm.store import Store
from tests.control_fixtures import PROJECT, QUEUE, Farm, concluded_job, farm, job_now, new_job, planned, whole_farm
from tests.report_samples import result

__all__ = ["farm", "whole_farm"]
FINE = result() | {"artifact": None}
ODD = FINE | {"execution_summary": {"p50": "fast"}}

MODEL = Artifact((FileRef("m.onnx", "0" * 64, 1),))
REQUEST = {"models": [{"file_name": "m.onnx", "artifact": {"files": [encode(MODEL.files[0])]}}], "targets": ["t"]}


class Cancelling(Store):
    """A store whose answer takes so long that the job is cancelled meanwhile."""

    def __init__(self, farm: Farm, job_id: str) -> None:
        super().__init__(farm.config)
        self.ledger, self.job_id = farm.ledger, job_id

    def put_document(self, key: str, body: bytes, content_type: str) -> None:
        self.ledger.run(lambda session: jobs.cancel(session, PROJECT, self.job_id).id)
        raise ValueError("The answer made no sense.")


def publish_all(farm: Farm, store: Store | None = None) -> None:
    while farm.ledger.run(lambda session: publish_next(session, store or farm.store)):
        pass


def test_a_result_that_cannot_be_rendered_ends_its_job_and_no_other(farm: Farm) -> None:
    with farm.ledger.transaction() as session:
        odd, fine = concluded_job(session, ODD).id, concluded_job(session, FINE).id

    publish_all(farm)

    assert job_now(farm, odd).state == "failed"
    assert [reason["code"] for reason in job_now(farm, odd).reasons] == ["farm-bug"]
    with farm.ledger.transaction() as session:
        assert session.get_one(Result, (fine, 0)).published


def test_a_job_cancelled_while_its_publication_fails_stays_cancelled(farm: Farm) -> None:
    with farm.ledger.transaction() as session:
        job = concluded_job(session, FINE).id

    publish_all(farm, Cancelling(farm, job))

    assert job_now(farm, job).state == "cancelled"


def test_a_step_without_the_output_it_owes_ends_its_job_and_no_other(farm: Farm) -> None:
    """Every step succeeded, and the last transform gave no `model`: what is told of it is a bug of the farm."""
    keys = ("convert", "compare", "measure")
    facts: dict[str, dict[str, object]] = {
        "compare": {"numerics": {"sqnr_db": 99.0}, "artifact": {}},
        "measure": {"conditions": {"valid": True, "host": "one"}, "execution_summary": {}},
    }
    branch = Branch(("convert",), (), keys, Input("model", step="convert"), "compare", "measure")
    row = PlannedResult("m", "t", "r", "float32", None, (branch,))
    plan = Plan({key: replace(planned(key), queue=QUEUE) for key in keys}, (row,))
    with farm.ledger.transaction() as session:
        odd = new_job(session, tuple(plan.steps.values()))
        odd.plan, odd.state, odd.request = encode(plan), "running", REQUEST
        session.add(Result(job_id=odd.id, position=0, listed=True))
        session.flush()
        for step in session.scalars(select(Step)):
            step.phase, step.facts = "succeeded", facts.get(step.key, {})
        other = concluded_job(session, FINE)
        other.request = REQUEST
        session.flush()
        session.get_one(Result, (other.id, 0)).published = True
        ids = odd.id, other.id

    while farm.ledger.run(lambda session: advance_next(session, farm.config)):
        pass

    assert [job_now(farm, job).state for job in ids] == ["failed", "succeeded"]
    assert "gave no output" in job_now(farm, ids[0]).reasons[0]["message"]
