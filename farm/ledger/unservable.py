"""Steps that nobody may claim any more: their hosts are gone, or came back with another environment or program."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from farm.domain.catalogue import LiveHost
from farm.domain.codec import encode
from farm.domain.errors import EnvironmentMissing, Failure, FarmError, NoLiveHost
from farm.domain.progress import StepPhase
from farm.ledger.attempts import is_self_test
from farm.ledger.events import wake_interested
from farm.ledger.hosts import is_young, live_hosts
from farm.ledger.steps import planned_of, set_phase
from farm.ledger.tables import Host, Step


def unservable(session: Session, *, grace_s: float) -> list[str]:
    """List unclaimed steps that no live host may claim.

    None while no host at all is live: then it may be the farm that did not hear them, and work waits for its hosts.
    """
    attested = Host.attestation["environments"]
    lock = attested[Step.planned["environment"].astext].astext
    serves = Host.attestation["serves"].contains(func.to_jsonb(Step.queue))
    trusted = or_(Host.quarantined.is_(None), is_self_test(Step.id))
    matches = lock == Step.planned["environment_digest"].astext
    supplied = attested.contains(func.coalesce(Step.planned["programs"], func.jsonb_build_object()))
    able = exists().where(is_young(grace_s), serves, matches, supplied, trusted)
    unclaimed = Step.phase.in_((StepPhase.READY.value, StepPhase.PUBLISHED.value))
    return list(session.scalars(select(Step.id).where(unclaimed, ~able, exists().where(is_young(grace_s)))))


def fail_unservable(session: Session, step_ids: Collection[str], *, grace_s: float) -> None:
    """Fail those of these steps that still nobody may claim, and wake the jobs that want them."""
    still = set(unservable(session, grace_s=grace_s)) & set(step_ids)
    unclaimed = Step.phase.in_((StepPhase.READY.value, StepPhase.PUBLISHED.value))
    held = select(Step).where(Step.id.in_(still), unclaimed).order_by(Step.id)
    live = live_hosts(session, grace_s=grace_s)
    for step in session.scalars(held.with_for_update(key_share=True, skip_locked=True)).all():
        serving = [host for host in live if step.queue in host.serves]
        failure = _why(step, _quarantined(session, step.queue), serving)
        set_phase(session, step, StepPhase.FAILED, ended=func.now(), failure=encode(failure))
        wake_interested(session, step.id)


def _quarantined(session: Session, queue: str) -> list[tuple[str, str | None]]:
    serves = Host.attestation["serves"].contains([queue])
    found = select(Host.name, Host.quarantine_reason).where(Host.quarantined.is_not(None), serves)
    return list(session.execute(found.order_by(Host.name)))


def _why(step: Step, quarantined: Sequence[tuple[str, str | None]], serving: Sequence[LiveHost]) -> Failure:
    planned = planned_of(step)
    error: FarmError = NoLiveHost(
        f"No live host in rotation serves {step.queue}; {step.title} waited for one."
        + "".join(f" {name} is quarantined: {reason}" for name, reason in quarantined),
        remedy="Start a worker for it, or release one that is quarantined (`farm hosts`), and submit the job again: "
        "`farm retry JOB`.",
    )
    if serving:
        lacks, remedy = f"environment {planned.environment} at the version", "Submit the job again"
        if any(host.environments.get(planned.environment) == planned.environment_digest for host in serving):
            lacks = f"environment {planned.environment} and the {', '.join(planned.programs)}"
            remedy = "Install that program again on a host that has the environment, or submit the job again"
        error = EnvironmentMissing(
            f"No live host of {step.queue} has {lacks} {step.title} was planned with.",
            remedy=f"{remedy}, so that it is planned anew: `farm retry JOB`.",
        )
    return error.failure
