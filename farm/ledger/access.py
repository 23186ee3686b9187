"""Tokens: who calls, and what they may do."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from farm.domain.errors import Unauthorized
from farm.ledger.tables import Project, Token

Role = Literal["user", "host"]
DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token stands for."""

    project: str
    role: Role
    host: str | None


def add_token(
    session: Session, token: str, role: Role, *, project: str = DEFAULT_PROJECT, host: str | None = None
) -> None:
    """Store a token's sha256; adding it again changes nothing."""
    session.execute(insert(Project).values(id=project).on_conflict_do_nothing())
    row = insert(Token).values(sha256=hash_of(token), project_id=project, role=role, host=host)
    session.execute(row.on_conflict_do_nothing())


def new_token() -> str:
    return secrets.token_urlsafe(32)


def identify(session: Session, token: str, *roles: Role) -> Caller:
    """Find whom a token stands for.

    Raises:
        Unauthorized: unknown, revoked, or of another role.
    """
    row = session.get(Token, hash_of(token))
    if row is None:
        raise Unauthorized("The token is unknown here.")
    if row.revoked is not None:
        raise _revoked(row)
    for role in roles:
        if row.role == role:
            return Caller(row.project_id, role, row.host)
    raise Unauthorized(f"This call needs the token of a {' or '.join(roles)}; yours is that of a {row.role}.")


def _revoked(row: Token) -> Unauthorized:
    when = f"{row.revoked:%Y-%m-%d %H:%M} UTC"
    if row.host is None:
        return Unauthorized(f"The token was revoked at {when}.")
    return Unauthorized(
        f"The token of host {row.host} was revoked at {when}.",
        remedy=f"Enroll the host again, which gives it a new one: farm host enroll {row.host}.",
    )


def hash_of(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
