"""Jobs: accepted once, ended once, shown as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from farm.domain.codec import decode
from farm.domain.conclusion import open_result
from farm.domain.errors import Conflict, NotFound
from farm.domain.plan import Plan
from farm.domain.progress import ENDED, Progress, StepPhase
from farm.ledger.attempts import withdraw
from farm.ledger.events import tell, wake
from farm.ledger.session import take_alone
from farm.ledger.steps import states_of
from farm.ledger.tables import Job, JobStep, Result, Step, new_id
from farm.ledger.waiting import waiting_lines
from farm.wire import jobs as wire

SCHEMA_VERSION = "1"
DONE = (StepPhase.SUCCEEDED, StepPhase.FAILED)
"""Steps of a cancelled job that were done before it was."""


def accept(
    session: Session,
    project: str,
    request: Mapping[str, Any],
    *,
    request_digest: str,
    idempotency_key: str | None = None,
    retry_of: str | None = None,
) -> tuple[Job, bool]:
    """Store a job in state `inspecting`.

    Returns: the job, and False when the same idempotency key had already brought it.

    Raises:
        Conflict: the key was used for another request.
    """
    if idempotency_key is not None:
        take_alone(session, f"{project}/{idempotency_key}")
        earlier = session.scalar(select(Job).where(Job.project_id == project, Job.idempotency_key == idempotency_key))
        if earlier is not None and earlier.request_digest != request_digest:
            raise Conflict(f"Idempotency key {idempotency_key!r} was used for another request, job {earlier.id}.")
        if earlier is not None:
            return earlier, False
    job = Job(
        id=new_id("job"),
        project_id=project,
        name=request.get("name"),
        labels=request.get("labels", {}),
        state="inspecting",
        request=dict(request),
        reasons=[],
        retry_of=retry_of,
        idempotency_key=idempotency_key,
        request_digest=request_digest,
    )
    session.add(job)
    session.flush()
    tell(session, job.id, "job", {"job": job.id, "state": job.state})
    wake(session, [job.id])
    return job, True


def get(session: Session, project: str, job_id: str, *, lock: bool = False) -> Job:
    """Find a job of this project.

    Raises:
        NotFound: no such job here.
    """
    found = select(Job).where(Job.id == job_id, Job.project_id == project)
    job = session.scalar(found.with_for_update(key_share=True) if lock else found)
    if job is None:
        raise NotFound(f"There is no job {job_id} in project {project}.", remedy="See `farm jobs`.")
    return job


def change_state(session: Session, job: Job, state: str, *, reasons: Sequence[Mapping[str, Any]] = ()) -> None:
    """Move a job on; an end withdraws its interest in steps."""
    job.state = state
    if reasons:
        job.reasons = [dict(reason) for reason in reasons]
    if state in wire.ENDED:
        job.ended = func.now()
        session.flush()
        withdraw(session, job)
    session.flush()
    tell(session, job.id, "job", {"job": job.id, "state": state})


def cancel(session: Session, project: str, job_id: str) -> Job:
    """Cancel a job; one that has ended stays as it is.

    Raises:
        Conflict: the job ended otherwise.
    """
    job = get(session, project, job_id, lock=True)
    if job.state == "cancelled":
        return job
    if job.ended is not None:
        raise Conflict(f"Job {job_id} has ended: {job.state}.")
    change_state(session, job, "cancelled")
    session.refresh(job)
    return job


def newest(
    session: Session,
    project: str,
    *,
    limit: int,
    state: str | None,
    label: tuple[str, str] | None,
    before: datetime | None,
) -> list[Job]:
    found = select(Job).where(Job.project_id == project).order_by(Job.created.desc()).limit(limit)
    if state:
        found = found.where(Job.state == state)
    if label:
        found = found.where(Job.labels[label[0]].astext == label[1])
    if before:
        found = found.where(Job.created < before)
    return list(session.scalars(found))


def view(session: Session, job: Job) -> wire.JobView:
    """Show a job without its results."""
    phases: Counter[str] = Counter(
        dict(
            session.execute(
                select(Step.phase, func.count())
                .join(JobStep, JobStep.step_id == Step.id)
                .where(JobStep.job_id == job.id)
                .group_by(Step.phase)
            ).all()
        )
    )
    verdicts = Counter(
        session.scalars(select(Result.verdict).where(Result.job_id == job.id, Result.listed, Result.concluded))
    )
    listed = session.scalar(select(func.count()).select_from(Result).where(Result.job_id == job.id, Result.listed))
    return wire.JobView.model_validate(
        {
            "job": job.id,
            "project": job.project_id,
            "name": job.name,
            "labels": job.labels,
            "state": job.state,
            "reasons": job.reasons,
            "retry_of": job.retry_of,
            "created": job.created,
            "ended": job.ended,
            "results_total": listed or 0,
            "results_by_verdict": {str(verdict): count for verdict, count in verdicts.items()},
            "progress": {
                "steps_done": sum(phases[phase.value] for phase in (DONE if job.state == "cancelled" else ENDED)),
                "steps_total": sum(phases.values()),
                "running": [*_running(session, job.id), *waiting_lines(session, job.id)],
            },
        }
    )


def report(session: Session, job: Job) -> dict[str, Any]:
    """Tell a job with all its results, in the fields of report.schema.json; results still open say how far they are."""
    shown = view(session, job)
    return head(job) | {
        **_answers(job),
        "state": job.state,
        "ended": shown.model_dump(mode="json")["ended"],
        "progress": shown.progress.model_dump(mode="json"),
        "results": _results(session, job) if job.plan is not None else [],
        "left_out": (job.plan or {}).get("left_out", []),
    }


def head(job: Job) -> dict[str, Any]:
    """Tell what of a job's report never changes."""
    return {
        "schema_version": SCHEMA_VERSION,
        "job": job.id,
        "project": job.project_id,
        "name": job.name,
        "labels": job.labels,
        "retry_of": job.retry_of,
        "created": job.created.isoformat(),
        "ended": None,
        "reasons": job.reasons,
        "answer": None,
    }


def _answers(job: Job) -> dict[str, Any]:
    """Tell the answer of a job of one model as `answer`, those of several as `answers`."""
    if not job.answers:
        return {"answer": None}
    if len(job.answers) > 1:
        return {"answer": None, "answers": job.answers}
    return {"answer": {name: value for name, value in job.answers[0].items() if name != "model"}}


def results_of(session: Session, job_id: str) -> list[Result]:
    return list(session.scalars(select(Result).where(Result.job_id == job_id).order_by(Result.position)))


def _results(session: Session, job: Job) -> list[dict[str, Any]]:
    rows = results_of(session, job.id)
    told: list[dict[str, Any]] = []
    open_rows = [row for row in rows if row.listed and row.body is None]
    plan = decode(Plan, job.plan) if open_rows else Plan()
    states = states_of(session, job.id) if open_rows else {}
    progress = [Progress(row.branch, row.concluded) for row in rows]
    for row in rows:
        if row.listed and row.body is not None:
            told.append(row.body)
        elif row.listed:
            body = open_result(plan, progress, row.position, states)
            told.append(body | {"state": "cancelled"} if job.ended is not None else body)
    return told


def _running(session: Session, job_id: str) -> list[str]:
    found = (
        select(Step.title, Step.host)
        .join(JobStep, JobStep.step_id == Step.id)
        .where(JobStep.job_id == job_id, Step.phase == StepPhase.RUNNING.value)
        .order_by(Step.started)
        .limit(20)
    )
    return [f"{title} @ {host}" for title, host in session.execute(found)]
