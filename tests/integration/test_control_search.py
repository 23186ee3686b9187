"""A search on a real PostgreSQL: rounds of int8-mixed join a job's plan, and measurements that are not worth it go."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from farm.control.advance import advance_next
from farm.domain.artifact import Artifact, FileRef
from farm.domain.codec import decode, encode
from farm.domain.goal import Goal
from farm.domain.plan import Branch, Input, Plan, PlannedResult, PlannedStep
from farm.ledger.events import wake
from farm.ledger.tables import Job, Result, Step
from tests.control_fixtures import Farm, farm, new_job, planned, whole_farm
from tests.domain_run import measured, numerics

__all__ = ["farm", "whole_farm"]
MODEL = Artifact((FileRef("m.onnx", "0" * 64, 1),))
REQUEST = {"models": [{"file_name": "m.onnx", "artifact": {"files": [encode(MODEL.files[0])]}}], "targets": ["t"]}
RANKING = [{"operator": f"conv{number}", "sqnr_db": 10.0} for number in range(20)]


def mixed_job(farm: Farm) -> str:
    """Have a job that wants 20 dB of an int8-mixed file."""
    made = Input("model", step="quantize")
    steps = {
        "quantize": replace(planned("quantize"), kind="quantize", options={"keep_float": []}),
        "compare": replace(planned("compare"), kind="compare", inputs=(made,)),
        "measure": replace(planned("measure"), kind="measure", inputs=(made,), after=("compare",), reuse_key="m"),
    }
    branch = Branch(("quantize",), (), tuple(steps), made, "compare", "measure")
    result = PlannedResult("m", "t", "r", "int8-mixed", None, (branch,))
    with farm.ledger.transaction() as session:
        job = new_job(session, steps.values())
        job.plan, job.state = encode(Plan(steps, (result,), goals={"m": Goal(("sqnr >= 20dB",))})), "running"
        job.request = REQUEST
        session.add(Result(job_id=job.id, position=0, listed=True))
        wake(session, [job.id])
        return job.id


def advance(farm: Farm) -> None:
    while farm.ledger.run(lambda session: advance_next(session, farm.config)):
        pass


def end_ready(farm: Farm, job: str) -> list[str]:
    """Let every ready step succeed: a file reaches 12 dB and one more for each operator in float."""
    with farm.ledger.transaction() as session:
        ready = session.scalars(select(Step).where(Step.phase == "ready")).all()
        for step in ready:
            plan = decode(PlannedStep, step.planned)
            kept = plan.options.get("keep_float") or ["conv0"]
            made = session.scalars(select(Step).where(Step.key.in_([given.step or "" for given in plan.inputs]))).all()
            count = max((len(one.facts["keep_float"]) for one in made), default=0)
            step.facts = {
                "quantize": {"keep_float": kept, "sensitivity": RANKING},
                "compare": {"numerics": numerics(12.0 + count), "artifact": {"inputs": [], "outputs": []}},
                "measure": measured(),
            }[step.kind]
            step.outputs = {"model": encode(Artifact((FileRef("m.onnx", f"{count:064d}", 1),)))}
            step.phase = "succeeded"
        wake(session, [job])
        return [step.kind for step in ready]


def test_rounds_join_the_plan_until_one_keeps_the_constraint_and_only_that_one_is_measured(farm: Farm) -> None:
    job = mixed_job(farm)
    ended: list[str] = []
    for _ in range(12):
        advance(farm)
        ended += end_ready(farm, job)

    assert ended.count("quantize") == ended.count("compare") == 4
    assert ended.count("measure") == 1
    with farm.ledger.transaction() as session:
        result, plan = session.get_one(Result, (job, 0)), decode(Plan, session.get_one(Job, job).plan)
        assert [branch.in_float for branch in plan.results[0].branches] == [None, 6, 8, 7]
        assert (result.branch, result.concluded, result.verdict) == (2, True, "ok")
        assert (result.body or {})["numerics"]["sqnr_db"] == 20.0
        assert set(session.scalars(select(Step.phase))) == {"succeeded", "skipped"}
