"""One job's odd case ends that job: it must not hang, nor hold up the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from farm.domain.errors import Failure, FarmBug, FarmError, FarmUnreachable
from farm.intake import reason_of
from farm.ledger import jobs
from farm.ledger.tables import Job

log = structlog.get_logger()


@contextmanager
def failing(
    session: Session, job: Job, action: str, *, passing: tuple[type[FarmError], ...] = (FarmUnreachable,)
) -> Iterator[None]:
    """Undo what broke in here and end its job as failed; a job that has ended meanwhile stays as it ended.

    Args:
        session: the transaction.
        job: the job that is worked on.
        action: what is done, for the log.
        passing: errors of parts that may answer later; they and the ledger's own are raised.
    """
    try:
        with session.begin_nested():
            yield
    except DBAPIError:
        raise
    except passing:
        raise
    except Exception as error:
        log.exception("A job could not be moved on.", action=action, job_id=job.id)
        _end(session, job, _failure(error, job, action))


def _failure(error: Exception, job: Job, action: str) -> Failure:
    if isinstance(error, FarmError):
        return error.failure
    return FarmBug(f"Control could not {action} job {job.id}: {type(error).__name__}: {error}").failure


def _end(session: Session, job: Job, failure: Failure) -> None:
    session.refresh(job, with_for_update={"key_share": True})
    if job.ended is None:
        jobs.change_state(session, job, "failed", reasons=[reason_of(failure)])
