"""From an inspected job to its plan, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.orm import Session

from farm import catalog
from farm.domain.artifact import Artifact
from farm.domain.codec import decode, encode
from farm.domain.errors import BadRequest, Failure, FarmError
from farm.domain.facts import ModelFacts
from farm.domain.inputs import parse_input
from farm.domain.metric import LABEL_FREE_METRICS
from farm.domain.plan import Plan
from farm.domain.planner import make_plan
from farm.domain.preprocessing import declared, read_preprocessing
from farm.domain.progress import ENDED, StepPhase, StepState
from farm.domain.wanted import Submitted
from farm.intake import data_artifact, model_names, needs_score, reason_of, wanted_of
from farm.ledger import hosts, jobs, selftests, steps
from farm.ledger.tables import Job, Result
from farm.settings import Settings
from farm.wire.base import FileEntry
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
    planned = make_plan(replace(wanted_of(job.id, request), tests_host=tested is not None), models, world)
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
    calibration, evaluation = (_data(entry, inspections) for entry in (model.calibration, model.evaluation))
    failures += [data.failure for data in (calibration, evaluation) if data.failure]
    preprocessing, wrong = _preprocessing(model, calibration, evaluation)
    failures += wrong
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
        calibration=calibration.artifact,
        calibration_arrays=calibration.arrays,
        evaluation=evaluation.artifact,
        evaluation_arrays=evaluation.arrays,
        metric=model.metric,
        preprocessing=preprocessing,
    )


@dataclass(frozen=True, slots=True)
class _Data:
    """What inspection made of a data file: arrays to feed from, and how pictures became them."""

    artifact: Artifact | None = None
    arrays: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] | None = None
    failure: Failure | None = None


def _data(entry: FileEntry | None, inspections: Inspections) -> _Data:
    given = data_artifact(entry)
    if given is None:
        return _Data()
    found = inspections[catalog.data_inspector(given).name, given.digest]
    facts = found.facts
    return _Data(found.outputs.get("data", given), facts.get("arrays", {}), facts.get("preprocessing"), found.failure)


def _preprocessing(model: ModelRequest, *given: _Data) -> tuple[Mapping[str, Any] | None, list[Failure]]:
    """Tell the one preprocessing of a model: what was declared, and what pictures were prepared by."""
    try:
        told = declared(read_preprocessing(model.preprocessing)) if model.preprocessing is not None else None
    except FarmError as error:
        return None, [error.failure]
    used = [data.preprocessing for data in given if data.preprocessing is not None]
    if any(one != other for one in used for other in (*used, told or one)):
        differing = BadRequest(
            "The pictures of the calibration and evaluation data were prepared in different ways, or not as declared.",
            remedy="Declare one preprocessing for both.",
        )
        return told, [differing.failure]
    return told or next(iter(used), None), []


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
