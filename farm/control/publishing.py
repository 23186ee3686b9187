"""Publish a concluded result: server-side copies and documents, no model bytes are parsed."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from farm.control.guard import failing
from farm.domain.codec import encode
from farm.domain.errors import ConfigurationError, FarmUnreachable, TransferFailed
from farm.ledger import jobs
from farm.ledger.events import wake
from farm.ledger.tables import Job, Result
from farm.publication import document_refs, documents, published_files, published_prefix
from farm.store import Store


def publish_next(session: Session, store: Store) -> bool:
    """Publish one concluded result under its name; False when none waits. Done again, it changes nothing."""
    row = session.scalar(
        select(Result)
        .join(Job, Job.id == Result.job_id)
        .where(Result.concluded, Result.listed, Result.published.is_(False), Job.ended.is_(None))
        .order_by(func.random())
        .limit(1)
        .with_for_update(of=Result, skip_locked=True)
    )
    if row is None or row.body is None:
        return False
    job = session.get_one(Job, row.job_id)
    with failing(session, job, "publish", passing=(FarmUnreachable, TransferFailed, ConfigurationError)):
        _publish(session, store, job, row, row.body)
    return True


def _publish(session: Session, store: Store, job: Job, row: Result, body: Mapping[str, Any]) -> None:
    prefix = published_prefix(job.id, body)
    blobs = store.of(job.project_id)
    for file in published_files(body):
        blobs.publish(file, f"{prefix}/{file.name}")
    written = documents(jobs.head(job), body)
    for name, text in written.items():
        store.put_document(f"{prefix}/{name}", text, mimetypes.guess_type(name)[0] or "application/octet-stream")
    row.documents = encode(document_refs(written))
    row.published = True
    wake(session, [job.id])
