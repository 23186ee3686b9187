"""The logs of attempts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.domain.artifact import FileRef
from farm.domain.codec import decode
from farm.ledger.tables import Attempt, JobStep, Step


@dataclass(frozen=True, slots=True)
class AttemptLog:
    """Where one attempt's log lies; `file` is None while it runs, or when its host went silent."""

    step: str
    stage: str
    number: int
    host: str
    state: str
    file: FileRef | None


def of_job(session: Session, job_id: str) -> list[AttemptLog]:
    found = (
        select(Step, Attempt)
        .join(Attempt, Attempt.step_id == Step.id)
        .join(JobStep, JobStep.step_id == Step.id)
        .where(JobStep.job_id == job_id)
        .order_by(Attempt.claimed)
    )
    return [
        AttemptLog(
            step.id,
            step.stage,
            attempt.number,
            attempt.host,
            attempt.state,
            decode(FileRef, attempt.log) if attempt.log else None,
        )
        for step, attempt in session.execute(found).tuples()
    ]
