"""Hosts: what they attested, and when they were last heard of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from farm.domain.catalogue import LiveHost
from farm.ledger.attempts import extend
from farm.ledger.tables import Attempt, Host, Step
from farm.wire.hosts import Attestation, Heartbeat, HostView


def attest(session: Session, attestation: Attestation) -> None:
    """Record what a worker proved about its machine; a restart replaces it."""
    said = attestation.model_dump(mode="json")
    fresh = {"attestation": said, "attested": func.now(), "last_heartbeat": func.now(), "running": [], "waiting": []}
    added = insert(Host).values(name=attestation.name, **fresh)
    session.execute(added.on_conflict_do_update(index_elements=[Host.name], set_=fresh))


def hear(session: Session, heartbeat: Heartbeat, *, lease_s: float) -> list[str] | None:
    """Take a heartbeat in and extend its leases.

    Returns: attempts to stop, or None when the host must attest again.
    """
    host = session.get(Host, heartbeat.name, with_for_update=True)
    if host is None:
        return None
    host.last_heartbeat = func.now()
    host.running, host.waiting = heartbeat.running, heartbeat.waiting
    return extend(session, heartbeat.name, heartbeat.running, lease_s=lease_s)


def live_hosts(session: Session, *, grace_s: float) -> tuple[LiveHost, ...]:
    """List hosts whose heartbeat is younger than the grace."""
    young = Host.last_heartbeat > func.now() - timedelta(seconds=grace_s)
    return tuple(
        _live(Attestation.model_validate(host.attestation)) for host in session.scalars(select(Host).where(young))
    )


def host_views(session: Session, *, grace_s: float) -> list[HostView]:
    hosts = session.scalars(select(Host).order_by(Host.name)).all()
    return [_view(session, host, grace_s) for host in hosts]


def waiting_steps(session: Session, *, grace_s: float) -> set[str]:
    """List steps whose message a live host holds while it waits for its lock."""
    young = Host.last_heartbeat > func.now() - timedelta(seconds=grace_s)
    return {step for waiting in session.scalars(select(Host.waiting).where(young)) for step in waiting}


def _live(said: Attestation) -> LiveHost:
    return LiveHost(
        said.name, said.profile, said.architecture, said.can_measure, tuple(said.serves), dict(said.environments)
    )


def _view(session: Session, host: Host, grace_s: float) -> HostView:
    said = Attestation.model_validate(host.attestation)
    age_s = (datetime.now(UTC) - host.last_heartbeat).total_seconds()
    return HostView(
        name=host.name,
        profile=said.profile,
        architecture=said.architecture,
        emulated=said.emulated,
        can_measure=said.can_measure,
        isolation=said.isolation,
        live=age_s < grace_s,
        last_heartbeat=host.last_heartbeat,
        serves=said.serves,
        environments=said.environments,
        running=_titles(session, host.running),
        facts=said.facts,
    )


def _titles(session: Session, attempts: Sequence[str]) -> list[str]:
    found = select(Step.title).join(Attempt, Attempt.step_id == Step.id).where(Attempt.id.in_(list(attempts)))
    return list(session.scalars(found))
