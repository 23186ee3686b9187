"""Steps that broke by their host's fault, counted by host."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from farm.ledger.tables import Attempt, Host

BY_HOST = Attempt.failure["who_must_act"].astext == "host"


@dataclass(frozen=True, slots=True)
class Breaker:
    """A host, on how many different steps it failed lately, and the last failure."""

    host: str
    steps: int
    code: str
    message: str


def lately(session: Session, *, within_s: float, at_least: int) -> list[Breaker]:
    """List hosts in rotation on which so many different steps broke within that time and since their release."""
    since = func.now() - timedelta(seconds=within_s)
    found = (
        select(Attempt)
        .join(Host, Host.name == Attempt.host)
        .where(BY_HOST, Attempt.ended > since, Host.quarantined.is_(None))
        .where(or_(Host.released.is_(None), Attempt.ended > Host.released))
        .order_by(Attempt.ended)
    )
    by_host: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in session.scalars(found):
        by_host[attempt.host].append(attempt)
    return [
        Breaker(
            host, steps, str((broken[-1].failure or {}).get("code")), str((broken[-1].failure or {}).get("message"))
        )
        for host, broken in sorted(by_host.items())
        if (steps := len({attempt.step_id for attempt in broken})) >= at_least
    ]


def has_peer(session: Session, name: str, *, grace_s: float) -> bool:
    """Tell whether another live host in rotation serves every queue that this one shares with others."""
    host = session.get_one(Host, name)
    shared = [queue for queue in host.attestation["serves"] if not queue.startswith("host.")]
    peer = aliased(Host)
    able = peer.attestation["serves"].contains(shared)
    young = peer.last_heartbeat > func.now() - timedelta(seconds=grace_s)
    return (
        session.scalar(select(peer.name).where(peer.name != name, peer.quarantined.is_(None), able, young)) is not None
    )
