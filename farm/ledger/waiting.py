"""Steps whose message a host holds while it waits for its machine's lock, told to those who follow their jobs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session, load_only

from farm.domain.progress import StepPhase
from farm.ledger.events import tell_of_step
from farm.ledger.tables import Host, JobStep, Step

FRESH_S = 60.0
"""A host that was silent for longer is not said to wait for anything."""
WAITED_S = 2.0
"""A step that was published less long before a heartbeat may only just have come to its host."""
SHOWN = 20
NOT_BEGUN = (StepPhase.READY.value, StepPhase.PUBLISHED.value)


def tell_of_waiting(session: Session, host: Host, waiting: Collection[str]) -> None:
    """Tell the jobs of steps with which a host turns out to wait for its lock; to be called before it is heard."""
    before, now = host.last_heartbeat, session.scalars(select(func.now())).one()
    found = select(Step).where(Step.id.in_(waiting), Step.phase.in_(NOT_BEGUN), Step.published.is_not(None))
    for step in session.scalars(found) if waiting else ():
        known = step.id in (host.waiting or ()) and _has_waited(step, before)
        if _has_waited(step, now) and not known:
            told = {"step": step.id, "stage": step.stage, "title": step.title, "state": step.phase, "host": host.name}
            tell_of_step(session, step.id, told | {"waits_for": "host-lock"})


def waiting_lines(session: Session, job_id: str) -> list[str]:
    """Say which steps of a job wait for the lock of a host, and who has it."""
    mine = select(Step).join(JobStep, JobStep.step_id == Step.id).options(load_only(Step.title, Step.published))
    found = session.scalars(mine.where(JobStep.job_id == job_id, Step.phase == StepPhase.PUBLISHED.value))
    steps = {step.id: step for step in found}
    if not steps:
        return []
    fresh = Host.last_heartbeat > func.now() - timedelta(seconds=FRESH_S)
    return [
        f"{steps[id_].title} @ {host.name}, waiting for the host's lock: {_holder(host)}"
        for host in session.scalars(select(Host).where(fresh).order_by(Host.name))
        for id_ in host.waiting or ()
        if id_ in steps and _has_waited(steps[id_], host.last_heartbeat)
    ][:SHOWN]


def _has_waited(step: Step, until: datetime) -> bool:
    return step.published is not None and step.published < until - timedelta(seconds=WAITED_S)


def _holder(host: Host) -> str:
    return "another farm on its machine holds it" if host.lock_held_elsewhere else "its other work goes first"
