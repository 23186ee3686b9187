"""Steps that nobody may claim any more: their hosts are gone, or came back with another version of the environment."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from farm.domain.codec import encode
from farm.domain.errors import EnvironmentMissing, Failure, FarmError, NoLiveHost
from farm.domain.progress import StepPhase
from farm.ledger.events import wake_interested
from farm.ledger.hosts import live_hosts
from farm.ledger.steps import set_phase
from farm.ledger.tables import Host, Step


def unservable(session: Session, *, grace_s: float) -> list[str]:
    """List unclaimed steps that no live host may claim.

    None while no host at all is live: then it may be the farm that did not hear them, and work waits for its hosts.
    """
    since = func.now() - timedelta(seconds=grace_s)
    lock = Host.attestation["environments"][Step.planned["environment"].astext].astext
    serves = Host.attestation["serves"].contains(func.to_jsonb(Step.queue))
    able = exists().where(Host.last_heartbeat > since, serves, lock == Step.planned["environment_digest"].astext)
    unclaimed = Step.phase.in_((StepPhase.READY.value, StepPhase.PUBLISHED.value))
    return list(session.scalars(select(Step.id).where(unclaimed, ~able, exists().where(Host.last_heartbeat > since))))


def fail_unservable(session: Session, step_ids: Collection[str], *, grace_s: float) -> None:
    """Fail those of these steps that still nobody may claim, and wake the jobs that want them."""
    still = set(unservable(session, grace_s=grace_s)) & set(step_ids)
    unclaimed = Step.phase.in_((StepPhase.READY.value, StepPhase.PUBLISHED.value))
    held = select(Step).where(Step.id.in_(still), unclaimed).order_by(Step.id)
    served = {queue for host in live_hosts(session, grace_s=grace_s) for queue in host.serves}
    for step in session.scalars(held.with_for_update(key_share=True, skip_locked=True)).all():
        failure = _why(step, is_served=step.queue in served)
        set_phase(session, step, StepPhase.FAILED, ended=func.now(), failure=encode(failure))
        wake_interested(session, step.id)


def _why(step: Step, *, is_served: bool) -> Failure:
    environment = step.planned["environment"]
    error: FarmError = NoLiveHost(
        f"No live host serves {step.queue}; {step.title} waited for one.",
        remedy="Start a worker for it and submit the job again: `farm retry JOB`.",
    )
    if is_served:
        error = EnvironmentMissing(
            f"No live host of {step.queue} has environment {environment} at the version {step.title} was planned with.",
            remedy="Submit the job again, so that it is planned anew: `farm retry JOB`.",
        )
    return error.failure
