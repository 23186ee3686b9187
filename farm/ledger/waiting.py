"""Steps whose message a host holds while it waits for its machine's lock, told to those who follow their jobs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from farm.domain.progress import StepPhase
from farm.ledger.events import tell_of_step
from farm.ledger.tables import Host, JobStep, Step

FRESH_S = 60.0
"""A host that was silent for longer is not said to wait for anything."""
SHOWN = 20
NOT_BEGUN = (StepPhase.READY.value, StepPhase.PUBLISHED.value)


def tell_of_waiting(session: Session, host: Host, waiting: Collection[str]) -> None:
    """Tell the jobs of steps that a host has begun to wait for its lock with."""
    new = set(waiting) - set(host.waiting or ())
    for step in session.scalars(select(Step).where(Step.id.in_(new), Step.phase.in_(NOT_BEGUN))) if new else ():
        told = {"step": step.id, "stage": step.stage, "title": step.title, "state": step.phase, "host": host.name}
        tell_of_step(session, step.id, told | {"waits_for": "host-lock"})


def waiting_lines(session: Session, job_id: str) -> list[str]:
    """Say which steps of a job wait for the lock of a host, and who has it as far as the host's own work shows."""
    mine = select(Step.id, Step.title).join(JobStep, JobStep.step_id == Step.id)
    found = session.execute(mine.where(JobStep.job_id == job_id, Step.phase.in_(NOT_BEGUN)).order_by(Step.ready))
    titles = dict(found.all())
    if not titles:
        return []
    fresh = Host.last_heartbeat > func.now() - timedelta(seconds=FRESH_S)
    return [
        f"{titles[step]} @ {host.name}, waiting for the host's lock: {_holder(host)}"
        for host in session.scalars(select(Host).where(fresh).order_by(Host.name))
        for step in host.waiting or ()
        if step in titles
    ][:SHOWN]


def _holder(host: Host) -> str:
    if host.running:
        return "its other work goes first"
    return "another farm on its machine holds it"
