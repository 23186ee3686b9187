"""A step that broke on a host by the host's fault goes to another one, while one is there to take it.

So does a step that needs a program of the operator's: hosts of one queue need not all have it.

The host that just failed is the idle one: it fails fast, and would take every attempt before a healthy peer is free.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session

from farm.domain.errors import Conflict
from farm.domain.plan import PlannedStep
from farm.domain.progress import StepPhase
from farm.ledger.breakages import BY_HOST
from farm.ledger.session import notify
from farm.ledger.steps import OUTBOX
from farm.ledger.tables import Attempt, Host, Outbox, Step

ELSEWHERE = "elsewhere"
"""In the evidence of a refused claim: the host that the step is left to."""
PASSED_ON_S = 1.0
"""How long a refused step's next message waits; of idle hosts the broker then serves the one that waited longest."""
WAITS_MAX_S = 600.0
"""A peer that took a step in no such time may be deaf; then a host that failed it may try again."""


def refuse_who_failed(session: Session, host: Host, planned: PlannedStep, step: Step, *, heard_within_s: float) -> None:
    """Leave a step to a peer when it broke on this host by the host's fault, since the host was last released.

    Args:
        session: the transaction.
        host: who asks for it.
        planned: what the peer must serve and have.
        step: the step, locked.
        heard_within_s: a host that was silent for longer is no peer.

    Raises:
        Conflict: a live peer in rotation, which did not fail the step, may take it.
    """
    waits = Step.ready > func.now() - timedelta(seconds=WAITS_MAX_S)
    mine = select(Host.name).join(Step, Step.id == step.id).where(Host.name == host.name, waits)
    if session.scalar(mine.where(_broke_on(step.id))) is None:
        return
    peer = _peer(session, host, planned, step, heard_within_s=heard_within_s)
    if peer is not None:
        raise Conflict(
            f"{step.title} broke on {host.name}; it is left to {peer}, which serves {planned.queue} too.",
            **{ELSEWHERE: peer},
        )


def refuse_who_lacks(session: Session, host: Host, planned: PlannedStep, step: Step, *, heard_within_s: float) -> None:
    """Refuse a host that does not have the programs of the operator's that a step was planned with.

    Args:
        session: the transaction.
        host: who asks for it.
        planned: what the host must have.
        step: the step, locked.
        heard_within_s: a host that was silent for longer is no peer.

    Raises:
        Conflict: it has none of that name, or another; a live peer that has it is named in the evidence.
    """
    attested = host.attestation["environments"]
    lacking = [name for name, digest in planned.programs.items() if attested.get(name) != digest]
    if not lacking:
        return
    peer = _peer(session, host, planned, step, heard_within_s=heard_within_s)
    raise Conflict(
        f"Host {host.name} has not the {', '.join(lacking)} that {step.title} was planned with; "
        + (f"it is left to {peer}." if peer else "it waits for a host that has it."),
        **({ELSEWHERE: peer} if peer else {}),
    )


def pass_on(session: Session, step_id: str, number: int) -> None:
    """Have the message of a step that its asker may not have sent again after a moment, unless one is due anyway."""
    step = session.scalar(select(Step).where(Step.id == step_id).with_for_update(key_share=True))
    if step is None or step.phase not in (StepPhase.READY, StepPhase.PUBLISHED) or step.attempts + 1 != number:
        return
    if session.scalar(select(exists().where(Outbox.step_id == step_id, Outbox.attempt == number))):
        return
    if step.phase == StepPhase.PUBLISHED:
        step.published = func.now()
    due = func.now() + timedelta(seconds=PASSED_ON_S)
    session.add(Outbox(step_id=step_id, attempt=number, not_before=due))
    notify(session, OUTBOX)


def _peer(session: Session, host: Host, planned: PlannedStep, step: Step, *, heard_within_s: float) -> str | None:
    """Find a live host in rotation that may take a step, and on which it did not break."""
    environments = Host.attestation["environments"]
    peers = select(Host.name).where(
        Host.name != host.name,
        Host.quarantined.is_(None),
        Host.last_heartbeat > func.now() - timedelta(seconds=heard_within_s),
        or_(Host.project_id.is_(None), Host.project_id == step.project_id),
        Host.attestation["serves"].contains([planned.queue]),
        environments[planned.environment].astext == planned.environment_digest,
        environments.contains(dict(planned.programs)),
        ~_broke_on(step.id),
    )
    return session.scalar(peers.order_by(Host.name).limit(1))


def _broke_on(step_id: str) -> ColumnElement[bool]:
    """Say in SQL that a step was lost by a host or failed by its fault, since the host was last released."""
    since = or_(Host.released.is_(None), Attempt.ended > Host.released)
    broke = or_(Attempt.state == "lost", BY_HOST)
    return exists().where(Attempt.step_id == step_id, Attempt.host == Host.name, since, broke).correlate(Host)
