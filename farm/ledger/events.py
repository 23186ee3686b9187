"""Events of a job, and waking control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from farm.ledger.session import notify
from farm.ledger.tables import Event, Job, JobStep, Wakeup

CONTROL = "control"
PUBLISHING = "publishing"
"""Topics that wake control's loops."""


def job_topic(job_id: str) -> str:
    return f"job:{job_id}"


def host_topic(name: str) -> str:
    return f"host:{name}"


def step_topic(step_id: str) -> str:
    return f"step:{step_id}"


def tell(session: Session, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    """Record an event of a job and tell those who watch it."""
    session.add(Event(job_id=job_id, kind=kind, data=dict(data)))
    notify(session, job_topic(job_id))


def tell_of_step(session: Session, step_id: str, data: Mapping[str, Any]) -> None:
    """Record a step's change with every live job that is interested in it."""
    notify(session, step_topic(step_id))
    for job_id in interested(session, step_id):
        tell(session, job_id, "step", data)


def wake(session: Session, job_ids: Iterable[str]) -> None:
    """Have control look at jobs."""
    for job_id in job_ids:
        session.add(Wakeup(job_id=job_id))
    notify(session, CONTROL)


def wake_interested(session: Session, step_id: str) -> None:
    wake(session, interested(session, step_id))


def wake_planned(session: Session, step_id: str) -> None:
    """Have control look at the jobs that want a step and have nothing under way yet: one begins for them now."""
    theirs = (
        select(Job.id).join(JobStep, JobStep.job_id == Job.id).where(JobStep.step_id == step_id, Job.state == "planned")
    )
    if waiting := session.scalars(theirs.distinct()).all():
        wake(session, waiting)


def interested(session: Session, step_id: str) -> list[str]:
    """List the jobs that have not ended and want a step."""
    found = (
        select(Job.id).join(JobStep, JobStep.job_id == Job.id).where(JobStep.step_id == step_id, Job.ended.is_(None))
    )
    return list(session.scalars(found.distinct()))


def take_wakeups(session: Session, limit: int = 20) -> list[str]:
    """Take jobs to look at, and with each all that woke it so far; others may take different ones at the same time."""
    first = select(Wakeup).order_by(Wakeup.id).limit(limit).with_for_update(skip_locked=True)
    jobs = list(dict.fromkeys(row.job_id for row in session.scalars(first)))
    same = select(Wakeup.id).where(Wakeup.job_id.in_(jobs)).with_for_update(skip_locked=True)
    session.execute(delete(Wakeup).where(Wakeup.id.in_(same)), execution_options={"synchronize_session": False})
    return jobs


def events_after(session: Session, job_id: str, last_id: int, limit: int = 500) -> list[Event]:
    found = select(Event).where(Event.job_id == job_id, Event.id > last_id).order_by(Event.id).limit(limit)
    return list(session.scalars(found))
