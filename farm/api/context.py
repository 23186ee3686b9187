"""What the routes work with, and who calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from farm.api.notices import Notices
from farm.domain.errors import Unauthorized
from farm.ledger import Ledger, enrolments
from farm.ledger.access import Caller, hash_of, identify
from farm.settings import Settings
from farm.store import Store


@dataclass(frozen=True, slots=True)
class Context:
    """The parts behind the API."""

    config: Settings
    ledger: Ledger
    store: Store
    notices: Notices


async def context(request: Request) -> Context:
    """Find the parts; async, since a plain function would cost every call a turn in the thread pool."""
    found: Context = request.app.state.context
    return found


Parts = Annotated[Context, Depends(context)]
_bearer = HTTPBearer(auto_error=False)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _token(given: HTTPAuthorizationCredentials | None) -> str:
    if given is None:
        raise Unauthorized("The call carries no bearer token.")
    return given.credentials


def user(parts: Parts, given: Credentials) -> Caller:
    return parts.ledger.run(lambda session: identify(session, _token(given), "user"))


def host(parts: Parts, given: Credentials) -> Caller:
    """Accept a host; the operator of one whose token was revoked is told that its worker still tries."""
    token = _token(given)
    try:
        return parts.ledger.run(lambda session: identify(session, token, "host"))
    except Unauthorized as error:
        why = f"It was turned away: {error.message}"
        parts.ledger.run(lambda session: enrolments.blame(session, hash_of(token), why))
        raise


def anyone(parts: Parts, given: Credentials) -> Caller:
    """Accept users and hosts: both upload."""
    return parts.ledger.run(lambda session: identify(session, _token(given), "user", "host"))


User = Annotated[Caller, Depends(user)]
HostCaller = Annotated[Caller, Depends(host)]
Anyone = Annotated[Caller, Depends(anyone)]
