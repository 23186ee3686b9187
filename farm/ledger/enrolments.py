"""Places for hosts: enrolled by a user, joined with a token of their own, revoked."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from farm.domain.errors import Conflict, NotFound
from farm.ledger.access import Caller, add_token, new_token
from farm.ledger.hosts import note, quarantine, release
from farm.ledger.tables import Enrolment, Host, Token

REVOKED = "Its token was revoked."


def enroll(session: Session, caller: Caller, name: str, profile: str) -> str:
    """Make a place for a host, or renew it: older tokens of that name end.

    A host that its revocation quarantined is back in rotation; one that was quarantined before stays so.

    Returns: the token, which is not kept.

    Raises:
        Conflict: the name is taken by another project's host, or by one that joined without a place of its own.
    """
    enrolled, host = session.get(Enrolment, name, with_for_update=True), session.get(Host, name)
    owner = enrolled.project_id if enrolled else host.project_id if host else None
    if owner is not None and owner != caller.project:
        raise Conflict(f"The name {name} is taken by another project.", remedy="Choose another name.")
    was_revoked = enrolled is not None and enrolled.revoked is not None
    fresh = {"project_id": caller.project, "profile": profile, "created": func.now(), "revoked": None}
    added = insert(Enrolment).values(name=name, **fresh)
    session.execute(added.on_conflict_do_update(index_elements=[Enrolment.name], set_=fresh))
    session.expire_all()
    _end_tokens(session, name)
    token = new_token()
    add_token(session, token, "host", project=caller.project, host=name)
    if host is not None and was_revoked and host.quarantine_reason == REVOKED:
        release(session, name)
    return token


def revoke(session: Session, caller: Caller, name: str, *, max_attempts: int) -> None:
    """End a host's tokens: its worker is turned away at its next call, and what it runs goes elsewhere.

    Raises:
        NotFound: this project enrolled no such host.
    """
    enrolled = session.get(Enrolment, name, with_for_update=True)
    if enrolled is None or enrolled.project_id != caller.project:
        raise NotFound(
            f"No host {name} is enrolled in project {caller.project}.",
            remedy="See `farm hosts`; the stack's own worker has no place of its own: stop it where it runs.",
        )
    if enrolled.revoked is None:
        enrolled.revoked = func.now()
    _end_tokens(session, name)
    if session.get(Host, name) is not None:
        quarantine(session, name, REVOKED, max_attempts=max_attempts)


def place_of(session: Session, caller: Caller) -> Enrolment | None:
    """Find the place that a host's token belongs to; None of a token that serves any name."""
    return session.get(Enrolment, caller.host) if caller.host else None


def blame(session: Session, token_sha256: str, why: str) -> None:
    """Tell the operator of the host whose token was turned away."""
    if name := session.scalar(select(Token.host).where(Token.sha256 == token_sha256)):
        note(session, name, why)


def _end_tokens(session: Session, name: str) -> None:
    session.execute(
        update(Token)
        .where(Token.host == name, Token.role == "host", Token.revoked.is_(None))
        .values(revoked=func.now())
    )
