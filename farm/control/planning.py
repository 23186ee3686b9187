"""From an inspected job to its plan, in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from farm import catalog
from farm.domain.codec import decode, encode
from farm.domain.errors import BadRequest, FarmError
from farm.domain.facts import ModelFacts
from farm.domain.inputs import parse_input
from farm.domain.metric import LABEL_FREE_METRICS
from farm.domain.plan import Plan
from farm.domain.planner import make_plan
from farm.domain.progress import ENDED, StepPhase, StepState
from farm.domain.wanted import Submitted
from farm.intake import data_artifact, model_names, needs_score, reason_of, wanted_of
from farm.ledger import hosts, jobs, selftests, steps
from farm.ledger.tables import Job, Result
from farm.settings import Settings
from farm.wire.jobs import JobRequest, ModelRequest

Inspections = dict[tuple[str, str], StepState]


def plan_job(session: Session, job: Job, config: Settings) -> bool:
    """Plan a job whose inspections have all ended, or refuse it; False while one is still under way."""
    states = steps.states_of(session, job.id)
    if any(state.phase not in ENDED for state in states.values()):
        return False
    request = JobRequest.model_validate(job.request)
    tested = request.host if selftests.is_test(session, job.id) else None
    world = catalog.world(hosts.live_hosts(session, grace_s=config.host_grace_s, also=tested))
    found = _inspections(session, job.id)
    score = needs_score(request)
    models = [
        _submitted(name, _scored(model) if score else model, found)
        for name, model in zip(model_names(request), request.models, strict=True)
    ]
    planned = make_plan(wanted_of(job.id, request), models, world)
    job.snapshot = {"hosts": encode(world.hosts)}
    if isinstance(planned, Plan):
        _store(session, job, planned, request)
    else:
        jobs.change_state(
            session, job, "refused", reasons=[reason_of(reason.failure, reason.model) for reason in planned]
        )
    return True


def _store(session: Session, job: Job, plan: Plan, request: JobRequest) -> None:
    job.plan = encode(plan)
    for position, result in enumerate(plan.results):
        session.add(Result(job_id=job.id, position=position, listed=result.listed, branch=0))
    session.flush()
    first = [plan.steps[key] for result in plan.results if result.branches for key in result.branches[0].steps]
    steps.enlist(session, job, first, max_measurement_age_s=request.max_measurement_age_s)
    jobs.change_state(session, job, "planned")


def _scored(model: ModelRequest) -> ModelRequest:
    """Have samples without labels scored by their agreement with the source, unless a metric is named."""
    unlabelled = model.evaluation is None and model.calibration is not None and model.metric is None
    return model.model_copy(update={"metric": LABEL_FREE_METRICS[0]}) if unlabelled else model


def _submitted(name: str, model: ModelRequest, inspections: Inspections) -> Submitted:
    artifact = model.artifact.artifact()
    inspector = catalog.inspector(catalog.source_format(model.file_name, artifact))
    inspected = inspections[inspector.name, artifact.digest]
    failures = [inspected.failure] if inspected.failure else []
    given = []
    for text in model.inputs:
        try:
            given.append(parse_input(text))
        except FarmError as error:
            failures.append(error.failure)
    arrays: list[dict[str, Any]] = []
    data = [data_artifact(entry) for entry in (model.calibration, model.evaluation)]
    for what in data:
        found = inspections[catalog.data_inspector().name, what.digest] if what else None
        if found and found.failure:
            failures.append(found.failure)
        arrays.append(dict(found.facts.get("arrays", {})) if found else {})
    if model.metric and not model.evaluation and not (model.calibration and model.metric in LABEL_FREE_METRICS):
        failures.append(
            BadRequest(f"Metric {model.metric} needs evaluation data.", remedy="Add --evaluation FILE.npz.").failure
        )
    return Submitted(
        name=name,
        artifact=artifact,
        facts=decode(ModelFacts, inspected.facts) if inspected.phase is StepPhase.SUCCEEDED else None,
        inspect=inspected.key,
        failures=tuple(failures),
        given=tuple(given),
        calibration=data[0],
        calibration_arrays=arrays[0],
        evaluation=data[1],
        evaluation_arrays=arrays[1],
        metric=model.metric,
    )


def _inspections(session: Session, job_id: str) -> Inspections:
    """Find the inspections by their stage and the digest of what they looked into: one file may have two formats."""
    found = steps.states_of(session, job_id)
    planned = {
        row.id: steps.planned_of(row) for row in steps.by_ids(session, [s.step for s in found.values()]).values()
    }
    return {
        (s.stage, given.artifact.digest): s
        for s in found.values()
        for given in planned[s.step].inputs
        if given.artifact
    }
