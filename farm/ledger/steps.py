"""Steps: enlisting them for a job, reading their states, dispatching and skipping them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased, defer

from farm.domain.artifact import Artifact, Contract
from farm.domain.codec import decode, encode
from farm.domain.errors import Failure
from farm.domain.plan import PlannedStep
from farm.domain.progress import ENDED, LOST, StepPhase, StepState
from farm.ledger.events import tell_of_step
from farm.ledger.session import notify
from farm.ledger.tables import Job, JobStep, Outbox, Step, StepNeed, new_id

OUTBOX = "outbox"
_LOST = [phase.value for phase in LOST]


def enlist(session: Session, job: Job, planned: Iterable[PlannedStep], *, max_measurement_age_s: float = 0.0) -> None:
    """Make a job's interest in steps known: rows of equal keys are taken over, missing ones are added.

    Rows taken over stay locked until the interest is committed, so that whoever ends one meanwhile sees it and wakes
    this job. Steps are added in the order of their keys, so that two jobs that add the same ones don't deadlock.
    """
    have = set(session.scalars(select(JobStep.key).where(JobStep.job_id == job.id)))
    wanted = {step.key: step for step in planned if step.key not in have}
    found = _held_by_key(session, job.project_id, wanted)
    _skip_doomed(session, found)
    linked = {key: (row, True) for key, row in found.items()}
    for key in sorted(wanted.keys() - found.keys()):
        old = _young_measurement(session, job.project_id, wanted[key], max_measurement_age_s)
        linked[key] = (old, True) if old else _add(session, job.project_id, wanted[key])
    if linked:
        interests = [
            {"job_id": job.id, "key": key, "step_id": row, "reused": old} for key, (row, old) in linked.items()
        ]
        session.execute(insert(JobStep).on_conflict_do_nothing(), interests)
    _link_needs(session, job.id, wanted.values())


def states_of(session: Session, job_id: str) -> dict[str, StepState]:
    """Read the states of a job's steps as they are by now, by the keys of its plan."""
    rows = session.execute(
        select(JobStep.key, JobStep.reused, Step, func.now())
        .join(Step, Step.id == JobStep.step_id)
        .where(JobStep.job_id == job_id)
        .options(defer(Step.planned)),
        execution_options={"populate_existing": True},
    )
    return {key: _state(key, step, reused=reused, farm_now=farm_now) for key, reused, step, farm_now in rows}


def dispatch(session: Session, step_ids: Iterable[str]) -> None:
    """Make waiting steps ready and write their messages; those that another job made ready stay as they are."""
    made_ready = session.execute(
        update(Step)
        .where(Step.id.in_(list(step_ids)), Step.phase == StepPhase.WAITING.value)
        .values(phase=StepPhase.READY.value, ready=func.now())
        .returning(Step.id, Step.attempts)
    ).all()
    for step_id, attempts in made_ready:
        session.add(Outbox(step_id=step_id, attempt=attempts + 1))
    if made_ready:
        notify(session, OUTBOX)


def skip(session: Session, step_ids: Iterable[str]) -> None:
    """End waiting steps whose inputs will never come."""
    session.execute(
        update(Step)
        .where(Step.id.in_(list(step_ids)), Step.phase == StepPhase.WAITING.value)
        .values(phase=StepPhase.SKIPPED.value, ended=func.now())
    )


def set_phase(session: Session, step: Step, phase: StepPhase, **values: Any) -> None:
    """Move a step on and tell the jobs that want it."""
    step.phase = phase.value
    for name, value in values.items():
        setattr(step, name, value)
    session.flush()
    tell_of_step(
        session,
        step.id,
        {"step": step.id, "stage": step.stage, "title": step.title, "state": phase.value, "host": step.host},
    )


def inputs_of(session: Session, step: Step) -> dict[str, Step]:
    """Find the steps that make a step's inputs, by key as its plan names them."""
    rows = session.execute(
        select(JobStep.key, Step)
        .join(Step, Step.id == JobStep.step_id)
        .join(StepNeed, StepNeed.needs_id == Step.id)
        .where(StepNeed.step_id == step.id)
    )
    return dict(rows.all())


def planned_of(step: Step) -> PlannedStep:
    return decode(PlannedStep, step.planned)


def failure_of(step: Step) -> Failure | None:
    return decode(Failure, step.failure) if step.failure else None


def outputs_of(step: Step) -> dict[str, Artifact]:
    return {name: decode(Artifact, artifact) for name, artifact in step.outputs.items()}


def _held_by_key(session: Session, project_id: str, keys: Iterable[str]) -> dict[str, str]:
    """Find the rows of keys that are not lost, and lock them in the order in which everybody locks steps."""
    found = (
        select(Step.key, Step.id)
        .where(Step.project_id == project_id, Step.key.in_(list(keys)), Step.phase.not_in(_LOST))
        .order_by(Step.id)
        .with_for_update(key_share=True)
    )
    return dict(session.execute(found).all())


def _skip_doomed(session: Session, found: dict[str, str]) -> None:
    """Let go of rows that wait for a step that was lost: its new attempt has a row of its own, and so must they."""
    need = aliased(Step)
    waits_in_vain = exists().where(StepNeed.step_id == Step.id, StepNeed.needs_id == need.id, need.phase.in_(_LOST))
    doomed = (
        update(Step)
        .where(Step.id.in_(list(found.values())), Step.phase == StepPhase.WAITING.value, waits_in_vain)
        .values(phase=StepPhase.SKIPPED.value, ended=func.now())
        .returning(Step.key)
        .execution_options(synchronize_session=False)
    )
    while keys := session.scalars(doomed).all():
        for key in keys:
            del found[key]


def _young_measurement(session: Session, project_id: str, planned: PlannedStep, max_age_s: float) -> str | None:
    if planned.reuse_key is None or max_age_s <= 0:
        return None
    return session.scalar(
        select(Step.id)
        .where(
            Step.project_id == project_id,
            Step.reuse_key == planned.reuse_key,
            Step.queue == planned.queue,
            Step.phase == StepPhase.SUCCEEDED.value,
            Step.ended >= func.now() - timedelta(seconds=max_age_s),
        )
        .order_by(Step.ended.desc())
        .limit(1)
    )


def _add(session: Session, project_id: str, planned: PlannedStep) -> tuple[str, bool]:
    """Insert a step, or find the row that another transaction inserted under the same key."""
    row = (
        insert(Step)
        .values(
            id=new_id("step"),
            project_id=project_id,
            key=planned.key,
            reuse_key=planned.reuse_key,
            stage=planned.stage,
            kind=planned.kind,
            planned=encode(planned),
            queue=planned.queue,
            title=planned.title,
            phase=StepPhase.WAITING.value,
        )
        .on_conflict_do_nothing()
        .returning(Step.id)
    )
    while (added := session.scalar(row)) is None:
        if other := _held_by_key(session, project_id, [planned.key]):
            return other[planned.key], True
    return added, False


def _link_needs(session: Session, job_id: str, planned: Iterable[PlannedStep]) -> None:
    ids = dict(session.execute(select(JobStep.key, JobStep.step_id).where(JobStep.job_id == job_id)).all())
    links = [{"step_id": ids[step.key], "needs_id": ids[need]} for step in planned for need in step.needs]
    if links:
        session.execute(insert(StepNeed).on_conflict_do_nothing(), links)


def _state(key: str, step: Step, *, reused: bool, farm_now: datetime) -> StepState:
    return StepState(
        step=step.id,
        key=key,
        stage=step.stage,
        phase=StepPhase(step.phase),
        outputs=outputs_of(step),
        facts=step.facts,
        contract=decode(Contract, step.contract) if step.contract else None,
        failure=failure_of(step),
        reused=reused,
        attempts=step.attempts,
        isolation=step.isolation,
        queue_time_s=_seconds(step.ready, step.started),
        run_time_s=step.run_time_s,
        age_s=_seconds(step.ended, farm_now),
        host=step.host,
        reproduce=step.reproduce,
        tool_versions=step.tool_versions,
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())


def ended(step: Step) -> bool:
    return StepPhase(step.phase) in ENDED


def by_ids(session: Session, ids: Iterable[str]) -> Mapping[str, Step]:
    return {step.id: step for step in session.scalars(select(Step).where(Step.id.in_(list(ids))))}


def ensure(session: Session, project_id: str, planned: PlannedStep) -> str:
    """Have a step that needs no other one, outside any job, dispatched; return its id."""
    found = _held_by_key(session, project_id, [planned.key]).get(planned.key)
    step_id = found or _add(session, project_id, planned)[0]
    dispatch(session, [step_id])
    return step_id
