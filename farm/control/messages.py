"""The outbox on its way to Celery, and messages that got lost on the way."""

from __future__ import annotations

import uuid
from collections import defaultdict

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from farm.domain.errors import FarmUnreachable
from farm.domain.progress import StepPhase
from farm.domain.stage import Kind
from farm.ledger.hosts import waiting_steps
from farm.ledger.tables import Outbox, Step
from farm.queue import Broker, publish
from farm.settings import Settings

BATCH = 100


def send_outbox(session: Session, app: Celery, config: Settings) -> bool:
    """Publish due messages and mark their steps published; a crash in between sends some twice, which claims bear.

    Returns: whether more may be due.

    Raises:
        FarmUnreachable: the broker does not answer; nothing is marked.
    """
    due = (
        select(Outbox, Step)
        .join(Step, Step.id == Outbox.step_id)
        .where(Outbox.not_before <= func.now())
        .order_by(Outbox.id)
        .limit(BATCH)
        .with_for_update(of=Outbox, skip_locked=True)
    )
    rows = session.execute(due).tuples().all()
    for entry, step in rows:
        if step.phase in (StepPhase.READY, StepPhase.PUBLISHED) and step.attempts + 1 == entry.attempt:
            _send(app, step, entry.attempt, config)
            _mark_published(session, step.id)
    session.execute(delete(Outbox).where(Outbox.id.in_([entry.id for entry, _ in rows])))
    return len(rows) == BATCH


def republish(session: Session, app: Celery, broker: Broker, config: Settings) -> bool:
    """Send again what was published and never claimed, when its message is gone or must be supposed to be.

    At once when Redis lost everything; else when its queue is empty and no live host holds it while waiting for its
    lock; behind a queue that is not empty, at most once a minute.
    """
    try:
        lost_all = broker.is_new(str(uuid.uuid4()))
        unclaimed = _unclaimed(session, 0.0 if lost_all else config.republish_after_s)
        held = set() if lost_all else waiting_steps(session, grace_s=config.host_grace_s)
        again = [s for s in _by_queue(unclaimed) if lost_all or _is_lost(s, broker, held, session, config)]
    except RedisError as exc:
        raise FarmUnreachable(f"Redis does not answer: {exc}") from exc
    for step in again:
        _send(app, step, step.attempts + 1, config)
        step.published = func.now()
    return False


def _mark_published(session: Session, step_id: str) -> None:
    """Note that a ready step's message is out; a host may have claimed it already, and that stands."""
    still_ready = update(Step).where(Step.id == step_id, Step.phase == StepPhase.READY.value)
    session.execute(still_ready.values(phase=StepPhase.PUBLISHED.value, published=func.now()))


def _send(app: Celery, step: Step, attempt: int, config: Settings) -> None:
    shown = step.title if config.flower_shows_names else f"{step.stage} · {step.id}"
    measures = step.kind == Kind.MEASURE
    try:
        publish(app, step_id=step.id, attempt=attempt, queue=step.queue, measures=measures, shown_as=shown)
    except (OperationalError, RedisError, OSError) as exc:
        raise FarmUnreachable(f"The broker does not answer: {exc}") from exc


def _unclaimed(session: Session, older_than_s: float) -> list[Step]:
    old = func.extract("epoch", func.now() - Step.published) >= older_than_s
    found = select(Step).where(Step.phase == StepPhase.PUBLISHED.value, old).order_by(Step.published).limit(BATCH)
    return list(session.scalars(found.with_for_update(key_share=True, skip_locked=True)))


def _by_queue(unclaimed: list[Step]) -> list[Step]:
    grouped: dict[str, list[Step]] = defaultdict(list)
    for step in unclaimed:
        grouped[step.queue].append(step)
    return [step for queue in grouped.values() for step in queue]


def _is_lost(step: Step, broker: Broker, held: set[str], session: Session, config: Settings) -> bool:
    if step.id in held:
        return False
    if broker.length(step.queue) == 0:
        return True
    age_s = session.scalar(select(func.extract("epoch", func.now() - Step.published)).where(Step.id == step.id))
    return float(age_s or 0) >= config.republish_behind_others_s
