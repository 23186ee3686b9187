"""The outbox on its way to Celery, and messages that got lost on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from farm.domain.errors import FarmUnreachable
from farm.domain.progress import StepPhase
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
    rows = session.execute(due).all()
    for entry, step in rows:
        if step.phase in (StepPhase.READY, StepPhase.PUBLISHED) and step.attempts + 1 == entry.attempt:
            _send(app, step, entry.attempt, config)
            _mark_published(session, step.id)
    session.execute(delete(Outbox).where(Outbox.id.in_([entry.id for entry, _ in rows])))
    return len(rows) == BATCH


@dataclass(slots=True)
class Republisher:
    """Sends again what was published and never claimed, when its message is gone or must be supposed to be."""

    app: Celery
    broker: Broker
    config: Settings
    lost_since: datetime | None = field(default=None)
    """When it was noticed that Redis lost everything; None once all is sent again."""

    def republish(self, session: Session) -> bool:
        """Send a batch again, and say whether more may be due.

        All of it when Redis lost everything; else when a step's queue is empty and no live host holds it while
        waiting for its lock; behind a queue that is not empty, at most once a minute.

        Raises:
            FarmUnreachable: Redis does not answer; it may lose everything meanwhile, and that is noticed anew.
        """
        try:
            if not self.broker.has_lost_all():
                self.lost_since = None
                self._send_again(session, self._lost_ones(session))
                return False
            return self._restore(session)
        except (RedisError, FarmUnreachable) as exc:
            self.lost_since = None
            raise FarmUnreachable(f"Redis does not answer: {exc}") from exc

    def _restore(self, session: Session) -> bool:
        """Send what was out before the loss, a batch at a time; Redis counts as whole after the last one."""
        if self.lost_since is None:
            self.lost_since = session.scalar(select(func.now()))
        batch = _unclaimed(session, Step.published < self.lost_since)
        self._send_again(session, batch)
        if len(batch) == BATCH:
            return True
        self.broker.mark_whole()
        self.lost_since = None
        return False

    def _lost_ones(self, session: Session) -> list[Step]:
        held = waiting_steps(session, grace_s=self.config.host_grace_s)
        free = [step for step in _unclaimed(session, _out_for(self.config.republish_after_s)) if step.id not in held]
        late = _out_for(self.config.republish_behind_others_s)
        ids = [step.id for step in free]
        given_up = set(session.scalars(select(Step.id).where(Step.id.in_(ids), late))) if ids else set()
        empty = {queue for queue in {step.queue for step in free} if self.broker.length(queue) == 0}
        return [step for step in free if step.queue in empty or step.id in given_up]

    def _send_again(self, session: Session, lost: Iterable[Step]) -> None:
        for step in lost:
            _send(self.app, step, step.attempts + 1, self.config)
            step.published = func.now()


def _mark_published(session: Session, step_id: str) -> None:
    """Note that a ready step's message is out; a host may have claimed it already, and that stands."""
    still_ready = update(Step).where(Step.id == step_id, Step.phase == StepPhase.READY.value)
    session.execute(still_ready.values(phase=StepPhase.PUBLISHED.value, published=func.now()))


def _send(app: Celery, step: Step, attempt: int, config: Settings) -> None:
    shown = step.title if config.flower_shows_names else f"{step.stage} · {step.id}"
    try:
        publish(app, step_id=step.id, attempt=attempt, queue=step.queue, kind=step.kind, shown_as=shown)
    except (OperationalError, RedisError, OSError) as exc:
        raise FarmUnreachable(f"The broker does not answer: {exc}") from exc


def _unclaimed(session: Session, due: ColumnElement[bool]) -> list[Step]:
    found = select(Step).where(Step.phase == StepPhase.PUBLISHED.value, due).order_by(Step.published).limit(BATCH)
    return list(session.scalars(found.with_for_update(key_share=True, skip_locked=True)))


def _out_for(least_s: float) -> ColumnElement[bool]:
    """Select steps whose message went out at least so long ago, by the ledger's clock."""
    return func.extract("epoch", func.now() - Step.published) >= least_s
