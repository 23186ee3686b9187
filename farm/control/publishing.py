"""Publish a concluded result: server-side copies and documents, no model bytes are parsed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.ledger.events import wake
from farm.ledger.tables import Job, Result
from farm.publication import documents, published_files, published_prefix
from farm.store import Store


def publish_next(session: Session, store: Store) -> bool:
    """Publish one concluded result under its name; False when none waits. Done again, it changes nothing."""
    row = session.scalar(
        select(Result)
        .where(Result.concluded, Result.listed, Result.published.is_(False))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if row is None or row.body is None:
        return False
    job = session.get_one(Job, row.job_id)
    _publish(store, job, row.body)
    row.published = True
    wake(session, [job.id])
    return True


def _publish(store: Store, job: Job, body: dict[str, Any]) -> None:
    prefix = published_prefix(job.id, body)
    for file in published_files(body):
        store.publish(file, f"{prefix}/{file.name}")
    for name, text in documents(job.id, body).items():
        store.put_document(f"{prefix}/{name}", text, "application/json")
