"""Hosts: what they attested, when they were last heard of, and whether they are in rotation."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from farm.domain.catalogue import LiveHost
from farm.domain.errors import Conflict, NotFound
from farm.ledger.attempts import extend, take_back
from farm.ledger.events import host_topic
from farm.ledger.session import notify
from farm.ledger.tables import Enrolment, Host
from farm.ledger.waiting import tell_of_waiting
from farm.wire.hosts import Attestation, Heartbeat, HeartbeatAnswer

LONGEST_NOTICE = 500
CLOCK_MAX_S = 60.0
"""A host's clock that is off by more is told of; nothing of the farm's rests on it, but logs and certificates do."""
CLOCK = "Its clock is "


def attest(session: Session, attestation: Attestation, *, project: str | None = None, busy_s: float = 0.0) -> None:
    """Record what a worker proved about its machine; a restart replaces it.

    Args:
        session: the transaction.
        attestation: what it said.
        project: whose token it brought.
        busy_s: for how long after its last heartbeat another worker's name is taken.

    Raises:
        Conflict: another project's host, or another worker that lives, has the name; or it was enrolled as another
            profile.
    """
    host = session.get(Host, attestation.name, with_for_update=True)
    if host is not None:
        _refuse_name(host, attestation, project, quiet_s=age_s(host, now(session)), busy_s=busy_s)
    enrolled = session.get(Enrolment, attestation.name)
    if enrolled is not None and enrolled.profile not in ("auto", attestation.profile):
        raise Conflict(
            f"Host {attestation.name} was enrolled as {enrolled.profile}; its worker says {attestation.profile}.",
            remedy=f"Start it with --profile {enrolled.profile}, or enroll the host anew as what it is: "
            f"farm host enroll {attestation.name} --profile {attestation.profile}.",
        )
    said = attestation.model_dump(mode="json")
    fresh = {
        **{"attestation": said, "attested": func.now(), "last_heartbeat": func.now(), "running": [], "waiting": []},
        **{"project_id": project, "instance": attestation.instance, "notice": None},
    }
    added = insert(Host).values(name=attestation.name, **fresh)
    session.execute(added.on_conflict_do_update(index_elements=[Host.name], set_=fresh))


def _refuse_name(host: Host, said: Attestation, project: str | None, *, quiet_s: float, busy_s: float) -> None:
    if host.project_id is not None and project is not None and host.project_id != project:
        raise Conflict(
            f"The name {host.name} is that of a host of another project.", remedy="Enroll this host by another name."
        )
    if None in (host.instance, said.instance) or host.instance == said.instance or quiet_s >= busy_s:
        return
    raise Conflict(
        f"A worker named {host.name} serves already; it was heard {quiet_s:.1f} s ago.",
        remedy="Stop that one, or enroll this machine by a name of its own: farm host enroll NAME. "
        "A name is free again once its worker has ended.",
        retry_after_s=round(busy_s - quiet_s, 1),
    )


def leave(session: Session, name: str, instance: str) -> None:
    """Give a name up; the host counts as live for its grace all the same, since it may only restart."""
    session.execute(update(Host).where(Host.name == name, Host.instance == instance).values(instance=None))


def note(session: Session, name: str, text: str) -> None:
    """Tell a host's operator something, in `farm hosts` and in its worker's log; the newest stands."""
    session.execute(update(Host).where(Host.name == name).values(notice=text[:LONGEST_NOTICE]))
    notify(session, host_topic(name))


def hear(session: Session, heartbeat: Heartbeat, *, lease_s: float) -> HeartbeatAnswer:
    """Take a heartbeat in and extend its leases.

    Returns: attempts to stop, or that the host must attest again; its quarantine and its notice.

    Raises:
        Conflict: another worker took the name meanwhile.
    """
    host = session.get(Host, heartbeat.name, with_for_update=True)
    if host is None or (host.instance is None and heartbeat.instance is not None):
        return HeartbeatAnswer(unknown_host=True)
    if heartbeat.instance is not None and host.instance != heartbeat.instance:
        raise Conflict(
            f"Another worker serves as {heartbeat.name} since this one was silent.",
            remedy="Stop one of the two, or enroll this machine by a name of its own: farm host enroll NAME.",
        )
    tell_of_waiting(session, host, heartbeat.waiting)
    host.last_heartbeat = func.now()
    host.running, host.waiting = heartbeat.running, heartbeat.waiting
    host.lock_held_elsewhere = heartbeat.lock_held_elsewhere
    host.notice = _of_clock(host, heartbeat.clock_s, now(session))
    stop = extend(session, heartbeat.name, heartbeat.running, lease_s=lease_s)
    reason = host.quarantine_reason if host.quarantined else None
    return HeartbeatAnswer(stop=stop, quarantined=reason, notice=host.notice)


def _of_clock(host: Host, clock_s: float | None, farm_now: datetime) -> str | None:
    """Return the notice that stands after a heartbeat: a clock that is far off is told of until it is right again."""
    if clock_s is None:
        return host.notice
    off_s = clock_s - farm_now.timestamp()
    was_told = host.notice is not None and host.notice.startswith(CLOCK)
    if abs(off_s) <= CLOCK_MAX_S:
        return None if was_told else host.notice
    if was_told or host.notice is None:
        how = "ahead of" if off_s > 0 else "behind"
        return f"{CLOCK}{abs(off_s) / 60:.0f} min {how} the farm's; have it set by NTP, else its logs mislead."
    return host.notice


def quarantine(session: Session, name: str, reason: str, *, max_attempts: int) -> None:
    """Take a host out of rotation; what it runs goes elsewhere. The first reason stands until its release.

    Raises:
        NotFound: no such host.
    """
    host = _get(session, name)
    if host.quarantined is None:
        host.quarantined, host.quarantine_reason = func.now(), reason
    session.flush()
    take_back(session, name, f"Host {name} was quarantined: {reason}", max_attempts=max_attempts)
    notify(session, host_topic(name))


def release(session: Session, name: str) -> None:
    """Put a host back into rotation; what happened before is not held against it any more.

    Raises:
        NotFound: no such host.
        Conflict: its token was revoked.
    """
    enrolled = session.get(Enrolment, name)
    if enrolled is not None and enrolled.revoked is not None:
        raise Conflict(
            f"The token of host {name} was revoked; there is nothing to release.",
            remedy=f"Enroll it again: farm host enroll {name}.",
        )
    host = _get(session, name)
    host.quarantined, host.quarantine_reason, host.released = None, None, func.now()
    host.notice = None
    notify(session, host_topic(name))


def require(session: Session, name: str, project: str) -> None:
    """See that a host is one of a project's, or was never bound to any.

    Raises:
        NotFound: it is not there for this project.
    """
    host = session.get(Host, name)
    if host is None or host.project_id not in (None, project):
        raise NotFound(f"There is no host {name} in project {project}.", remedy="See `farm hosts`.")


def _get(session: Session, name: str) -> Host:
    host = session.get(Host, name, with_for_update=True)
    if host is None:
        raise NotFound(f"No host {name} ever joined.", remedy="See `farm hosts`.")
    return host


def is_young(grace_s: float) -> ColumnElement[bool]:
    """Say in SQL that a host's heartbeat is younger than the grace."""
    return Host.last_heartbeat > func.now() - timedelta(seconds=grace_s)


def live_hosts(session: Session, *, grace_s: float, also: str | None = None) -> tuple[LiveHost, ...]:
    """List the live hosts in rotation; `also` one that is quarantined, for its self-test."""
    usable = or_(Host.quarantined.is_(None), Host.name == also) if also else Host.quarantined.is_(None)
    found = session.scalars(select(Host).where(is_young(grace_s), usable))
    return tuple(_live(Attestation.model_validate(host.attestation)) for host in found)


def waiting_steps(session: Session, *, grace_s: float) -> set[str]:
    """List steps whose message a live host holds while it waits for its lock."""
    return {step for waiting in session.scalars(select(Host.waiting).where(is_young(grace_s))) for step in waiting}


def _live(said: Attestation) -> LiveHost:
    return LiveHost(
        said.name, said.profile, said.architecture, said.can_measure, tuple(said.serves), dict(said.environments)
    )


def age_s(host: Host, farm_now: datetime) -> float:
    """Tell how long ago a host was heard, in seconds; `farm_now` is the ledger's time, as that of its heartbeat is."""
    return (farm_now - host.last_heartbeat).total_seconds()


def now(session: Session) -> datetime:
    """Read the ledger's clock: every time in it is of that one, whatever an API's own says."""
    return session.scalars(select(func.now())).one()
