"""Attempts: claims under a lease, outcomes under a fencing token, lost leases, cancelled work."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from farm.domain.artifact import Artifact
from farm.domain.codec import encode
from farm.domain.errors import Conflict, Failure, HostLost, JobCancelled
from farm.domain.plan import PlannedStep
from farm.domain.progress import ENDED, StepPhase
from farm.domain.remeasuring import INVALID, Retaking, failure_of, with_earlier
from farm.ledger.elsewhere import refuse_who_failed, refuse_who_lacks
from farm.ledger.events import host_topic, wake_interested, wake_planned
from farm.ledger.session import notify
from farm.ledger.steps import OUTBOX, planned_of, set_phase
from farm.ledger.tables import Attempt, Host, Job, JobStep, Model, Outbox, SelfTest, Step, new_id

BATCH = 50
RUNNING, STOPPING = "running", "stopping"
NEVER_AGAIN = Retaking()


@dataclass(frozen=True, slots=True)
class Finished:
    """What a host reports of an attempt."""

    state: str
    outputs: Mapping[str, Artifact] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] | None = None
    failure: Failure | None = None
    log: Mapping[str, Any] | None = None
    reproduce: str | None = None
    isolation: str | None = None
    run_time_s: float = 0.0
    tool_versions: Mapping[str, str] = field(default_factory=dict)


def claim(
    session: Session, *, step_id: str, number: int, host: str, lease_s: float
) -> tuple[Attempt, Step, PlannedStep]:
    """Lease attempt `number` of a step to a host.

    The host is locked before the step, as by its quarantine: that one then sees the attempt, or this one sees it.

    Raises:
        Conflict: the attempt is stale, taken or cancelled, or the host may not run the step, or is not to: it lacks a
            program that the step was planned with, or the step broke there and a peer is alive. `elsewhere` in its
            evidence names a peer that may take it.
    """
    claimant = session.get(Host, host, with_for_update={"read": True})
    step = session.scalar(select(Step).where(Step.id == step_id).with_for_update(key_share=True))
    if step is None or step.phase not in (StepPhase.READY, StepPhase.PUBLISHED) or step.attempts + 1 != number:
        raise Conflict(f"Attempt {number} of step {step_id} is stale.", stale=True)
    planned = planned_of(step)
    if claimant is None:
        raise Conflict(f"Host {host} has not attested itself.")
    _check_host(session, claimant, planned, step)
    refuse_who_lacks(session, claimant, planned, step, heard_within_s=lease_s)
    refuse_who_failed(session, claimant, planned, step, heard_within_s=lease_s)
    attempt = Attempt(
        id=new_id("attempt"),
        step_id=step.id,
        number=number,
        host=host,
        fencing_token=secrets.token_urlsafe(24),
        state=RUNNING,
        lease_until=func.now() + timedelta(seconds=lease_s),
    )
    session.add(attempt)
    set_phase(session, step, StepPhase.RUNNING, attempts=number, host=host, started=func.now())
    wake_planned(session, step.id)
    return attempt, step, planned


def held(session: Session, attempt_id: str, fencing_token: str) -> Attempt:
    """Find a running attempt by its id and fencing token.

    Raises:
        Conflict: the lease is lost, or the token is not the attempt's.
    """
    attempt = session.scalar(select(Attempt).where(Attempt.id == attempt_id).with_for_update(key_share=True))
    if attempt is None or not secrets.compare_digest(attempt.fencing_token, fencing_token):
        raise Conflict(f"Attempt {attempt_id} is not held under this fencing token.", stale=True)
    if attempt.state not in (RUNNING, STOPPING):
        raise Conflict(f"Attempt {attempt_id} is {attempt.state}; its lease is gone.", stale=True)
    return attempt


def finish(
    session: Session,
    attempt_id: str,
    fencing_token: str,
    finished: Finished,
    *,
    max_attempts: int,
    backoff_s: float,
    retaking: Retaking = NEVER_AGAIN,
) -> None:
    """End an attempt: its step succeeds, fails, is cancelled, or is tried again: the host was at fault, or too busy."""
    _lock_step_of(session, attempt_id)
    attempt = held(session, attempt_id, fencing_token)
    step = session.get_one(Step, attempt.step_id)
    is_current = step.phase == StepPhase.RUNNING and step.attempts == attempt.number
    attempt.state = finished.state if is_current or finished.state != "succeeded" else "lost"
    attempt.ended = func.now()
    attempt.isolation = finished.isolation
    attempt.log = dict(finished.log) if finished.log else None
    attempt.failure = encode(finished.failure) if finished.failure else None
    if not is_current:
        return
    if finished.failure is not None and finished.failure.retryable and step.attempts < max_attempts:
        _try_again(session, step, backoff_s * 2 ** (step.attempts - 1))
        return
    earlier = _invalid_before(session, step.id)
    if (pause_s := retaking.pause_after(step.kind, finished.facts, len(earlier))) is not None:
        attempt.state, attempt.failure = INVALID, encode(failure_of(finished.facts, pause_s))
        _try_again(session, step, pause_s)
        return
    phase = StepPhase(finished.state)
    set_phase(
        session,
        step,
        phase,
        ended=func.now(),
        outputs={name: encode(artifact) for name, artifact in finished.outputs.items()},
        facts=with_earlier(finished.facts, earlier),
        contract=dict(finished.contract) if finished.contract else None,
        failure=attempt.failure,
        reproduce=finished.reproduce,
        isolation=finished.isolation,
        run_time_s=finished.run_time_s,
        tool_versions=dict(finished.tool_versions),
    )
    wake_interested(session, step.id)


def _invalid_before(session: Session, step_id: str) -> list[dict[str, Any] | None]:
    """List why a step's earlier measurements did not count."""
    found = select(Attempt.failure).where(Attempt.step_id == step_id, Attempt.state == INVALID)
    return list(session.scalars(found.order_by(Attempt.number)))


def lose_expired(session: Session, *, max_attempts: int) -> bool:
    """Take steps back from hosts whose lease ran out; a step that keeps losing its host fails with that evidence.

    Returns: whether more may have run out.
    """
    expired = (Attempt.state.in_((RUNNING, STOPPING)), Attempt.lease_until < func.now())
    theirs = select(Attempt.step_id).where(*expired)
    locked = select(Step).where(Step.id.in_(theirs)).order_by(Step.id).limit(BATCH)
    held_now = session.scalars(locked.with_for_update(key_share=True, skip_locked=True)).all()
    by_id = {step.id: step for step in held_now}
    found = select(Attempt).where(*expired, Attempt.step_id.in_(by_id)).with_for_update(skip_locked=True)
    for attempt in session.scalars(found):
        step = by_id[attempt.step_id]
        failure = _host_lost(step, attempt)
        attempt.state, attempt.ended, attempt.failure = "lost", func.now(), encode(failure)
        notify(session, host_topic(attempt.host))
        _again_or_fail(session, step, failure, max_attempts)
    return len(held_now) == BATCH


def take_back(session: Session, host: str, why: str, *, max_attempts: int) -> None:
    """Take every running attempt from a host that is no longer trusted with it; its steps go elsewhere."""
    theirs = select(Attempt.step_id).where(Attempt.host == host, Attempt.state == RUNNING)
    locked = select(Step).where(Step.id.in_(theirs)).order_by(Step.id).with_for_update(key_share=True)
    by_id = {step.id: step for step in session.scalars(locked)}
    mine = select(Attempt).where(Attempt.host == host, Attempt.state == RUNNING, Attempt.step_id.in_(by_id))
    for attempt in session.scalars(mine.with_for_update()):
        failure = HostLost(why, host=host, attempt=attempt.number).failure
        attempt.state, attempt.ended, attempt.failure = "lost", func.now(), encode(failure)
        _again_or_fail(session, by_id[attempt.step_id], failure, max_attempts)


def withdraw(session: Session, job: Job) -> None:
    """End the interest of an ended or cancelled job: steps that nobody else wants are stopped or never start.

    Others are live jobs, and models that were submitted for their inspection alone.

    The steps are locked before it is asked who else wants them: an interest that was committed meanwhile counts, and
    of two jobs that end at once the second one stops what both wanted.
    """
    mine = select(JobStep.step_id).where(JobStep.job_id == job.id)
    held = select(Step).where(Step.id.in_(mine), Step.phase.not_in([phase.value for phase in ENDED]))
    steps = session.scalars(held.order_by(Step.id).with_for_update(key_share=True)).all()
    others = (
        select(JobStep.step_id)
        .join(Job, Job.id == JobStep.job_id)
        .where(JobStep.step_id.in_([step.id for step in steps]), Job.id != job.id, Job.ended.is_(None))
    )
    submitted = select(Model.inspect_step).where(Model.inspect_step.in_([step.id for step in steps]))
    wanted = {*session.scalars(others), *session.scalars(submitted)}
    failure = encode(JobCancelled("No live job wants this step any more.").failure)
    for step in steps:
        if step.id not in wanted:
            _stop_attempts(session, step)
            step.phase, step.ended, step.failure = StepPhase.CANCELLED.value, func.now(), failure


def extend(session: Session, host: str, attempt_ids: list[str], *, lease_s: float) -> list[str]:
    """Extend the leases a host says it holds.

    Returns: the attempts it must stop: cancelled (also those it claimed since it spoke), lost, or not its own.
    """
    extended = session.scalars(
        update(Attempt)
        .where(Attempt.id.in_(attempt_ids), Attempt.host == host, Attempt.state == RUNNING)
        .values(lease_until=func.now() + timedelta(seconds=lease_s))
        .returning(Attempt.id)
    ).all()
    stopping = session.scalars(select(Attempt.id).where(Attempt.host == host, Attempt.state == STOPPING))
    return list(dict.fromkeys([a for a in attempt_ids if a not in set(extended)] + list(stopping)))


def _lock_step_of(session: Session, attempt_id: str) -> None:
    """Lock a step before its attempt, as everybody does who changes both."""
    its = select(Attempt.step_id).where(Attempt.id == attempt_id).scalar_subquery()
    session.scalar(select(Step.id).where(Step.id == its).with_for_update(key_share=True))


def _check_host(session: Session, host: Host, planned: PlannedStep, step: Step) -> None:
    name = host.name
    if host.quarantined is not None and not session.scalar(select(is_self_test(step.id))):
        raise Conflict(f"Host {name} is quarantined: {host.quarantine_reason}")
    if planned.queue not in host.attestation["serves"]:
        raise Conflict(f"Host {name} does not serve {planned.queue}.")
    if host.attestation["environments"].get(planned.environment) != planned.environment_digest:
        raise Conflict(f"Host {name} attests another version of environment {planned.environment} than the plan's.")


def _again_or_fail(session: Session, step: Step, failure: Failure, max_attempts: int) -> None:
    """Send a running step that lost its host to another one, or fail it with that evidence."""
    if step.phase != StepPhase.RUNNING:
        return
    if step.attempts < max_attempts:
        _try_again(session, step, 0.0)
        return
    set_phase(session, step, StepPhase.FAILED, ended=func.now(), failure=encode(failure))
    wake_interested(session, step.id)


def is_self_test(step_id: InstrumentedAttribute[str] | str) -> ColumnElement[bool]:
    """Say in SQL that a step is of a self-test, which a quarantined host may run."""
    return exists().where(JobStep.step_id == step_id, SelfTest.job_id == JobStep.job_id)


def _try_again(session: Session, step: Step, delay_s: float) -> None:
    set_phase(session, step, StepPhase.READY, host=None, ready=func.now(), published=None)
    session.add(Outbox(step_id=step.id, attempt=step.attempts + 1, not_before=func.now() + timedelta(seconds=delay_s)))
    notify(session, OUTBOX)


def _stop_attempts(session: Session, step: Step) -> None:
    running = select(Attempt).where(Attempt.step_id == step.id, Attempt.state == RUNNING)
    for attempt in session.scalars(running):
        attempt.state = STOPPING
        notify(session, host_topic(attempt.host))


def _host_lost(step: Step, attempt: Attempt) -> Failure:
    return HostLost(
        f"Host {attempt.host} went silent in attempt {attempt.number} of {step.title}.",
        remedy="See `farm hosts`; the host may have lost power, network or its worker.",
        host=attempt.host,
        attempt=attempt.number,
    ).failure
