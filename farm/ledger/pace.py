"""How long a host's queues are, and when a step sent now would start there: predicted, from how long others took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from farm.domain.progress import StepPhase
from farm.ledger.tables import Attempt, Step

SAMPLE = 50
"""Newest steps of a queue that its pace is taken from."""


@dataclass(frozen=True, slots=True)
class Load:
    """What waits for one queue, and how long a step of it took lately; None when none has been seen."""

    waiting: int
    step_s: float | None


def loads(session: Session, queues: Sequence[str]) -> dict[str, Load]:
    """Read the load of each queue."""
    unclaimed = Step.phase.in_((StepPhase.READY.value, StepPhase.PUBLISHED.value))
    counted = select(Step.queue, func.count()).where(Step.queue.in_(queues), unclaimed).group_by(Step.queue)
    waiting = dict(session.execute(counted).all())
    return {queue: Load(waiting.get(queue, 0), _pace(session, queue)) for queue in queues}


def _pace(session: Session, queue: str) -> float | None:
    newest = (
        select(Step.run_time_s)
        .where(Step.queue == queue, Step.phase == StepPhase.SUCCEEDED.value)
        .order_by(Step.ended.desc())
        .limit(SAMPLE)
        .subquery()
    )
    mean = session.scalar(select(func.avg(newest.c.run_time_s)))
    return None if mean is None else float(mean)


def predicted_start_s(
    serves: Sequence[str], shared_by: Mapping[str, int], known: Mapping[str, Load], running_s: Sequence[float]
) -> float | None:
    """Predict how long a step sent to a host now would wait: what waits there, shared among its peers, at their pace.

    Args:
        serves: the host's queues.
        shared_by: how many hosts in rotation serve each queue.
        known: loads by queue.
        running_s: for how long each step that runs there has run already.

    Returns: None when steps wait or run of which nobody knows how long they take.
    """
    paces = [load.step_s for queue in serves if (load := known.get(queue)) and load.step_s is not None]
    mean_s = sum(paces) / len(paces) if paces else None
    waits = [known[queue] for queue in serves if queue in known]
    if (running_s or any(load.waiting for load in waits)) and mean_s is None:
        return None
    busy_s = sum(max(0.0, (mean_s or 0.0) - ran_s) for ran_s in running_s)
    ahead = sum(
        known[queue].waiting * (known[queue].step_s or mean_s or 0.0) / max(1, shared_by.get(queue, 1))
        for queue in serves
        if queue in known
    )
    return round(busy_s + ahead, 1)


def running_s(session: Session, attempts: Sequence[str]) -> list[float]:
    """Tell for how long attempts have run."""
    age = func.extract("epoch", func.now() - Attempt.claimed)
    return [float(seconds) for seconds in session.scalars(select(age).where(Attempt.id.in_(list(attempts))))]
