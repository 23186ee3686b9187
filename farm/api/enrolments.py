"""Hosts' places: enroll, join, revoke, quarantine, self-test."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from farm import catalog
from farm.api.context import Context, HostCaller, Parts, User
from farm.api.join import SOURCE_NAME, join_script, source_archive
from farm.domain.catalogue import near_misses
from farm.domain.errors import UnknownName
from farm.ledger import enrolments, hosts, selftests
from farm.wire.hosts import Enrolment, EnrolRequest, HostSelf, QuarantineRequest, SelfTestView

router = APIRouter(tags=["hosts"])


@router.post("/hosts/enrolments", status_code=201)
def enroll(asked: EnrolRequest, parts: Parts, caller: User) -> Enrolment:
    """Make a place for a host; the token in the answer is shown this once. Enrolling again ends the older token."""
    if asked.profile != "auto" and asked.profile not in catalog.profiles():
        raise UnknownName(f"There is no profile {asked.profile!r}: {near_misses(asked.profile, catalog.profiles())}")
    token = parts.ledger.run(lambda session: enrolments.enroll(session, caller, asked.name, asked.profile))
    return Enrolment(
        name=asked.name,
        profile=asked.profile,
        project=caller.project,
        token=token,
        redis_url=_broker(parts),
        environments=_environments(asked.profile),
    )


@router.post("/hosts/{name}/revoke", status_code=204)
def revoke(name: str, parts: Parts, caller: User) -> Response:
    """End a host's token; its worker is turned away at its next call."""
    limit = parts.config.max_attempts
    parts.ledger.run(lambda session: enrolments.revoke(session, caller, name, max_attempts=limit))
    return Response(status_code=204)


@router.post("/hosts/{name}/quarantine", status_code=204)
def quarantine(name: str, asked: QuarantineRequest, parts: Parts, caller: User) -> Response:
    """Take a host out of rotation; what it runs goes elsewhere."""
    parts.ledger.run(lambda session: hosts.require(session, name, caller.project))
    limit = parts.config.max_attempts
    parts.ledger.run(lambda session: hosts.quarantine(session, name, asked.reason, max_attempts=limit))
    return Response(status_code=204)


@router.post("/hosts/{name}/release", status_code=204)
def release(name: str, parts: Parts, caller: User) -> Response:
    """Put a host back into rotation."""
    parts.ledger.run(lambda session: hosts.require(session, name, caller.project))
    parts.ledger.run(lambda session: hosts.release(session, name))
    return Response(status_code=204)


@router.post("/hosts/{name}/self-tests", status_code=201)
def ask_self_test(name: str, parts: Parts, caller: User) -> list[SelfTestView]:
    """Have a live host test itself under each runtime as soon as it is free; a test under way is shown instead."""

    def ask(session: Session) -> list[SelfTestView]:
        hosts.require(session, name, caller.project)
        rows = selftests.ask(session, name, "operator", grace_s=parts.config.host_grace_s)
        return [selftests.view(row) for row in rows]

    return parts.ledger.run(ask)


@router.get("/hosts/{name}/self-tests")
def list_self_tests(name: str, parts: Parts, caller: User, limit: int = 30) -> list[SelfTestView]:
    """List a host's self-tests, newest first: the history of its noise floor."""

    def listed(session: Session) -> list[SelfTestView]:
        hosts.require(session, name, caller.project)
        return [selftests.view(row) for row in selftests.history(session, name, limit)]

    return parts.ledger.run(listed)


@router.get("/hosts/self")
def who_am_i(parts: Parts, caller: HostCaller) -> HostSelf:
    """Tell a worker whose token it has, and where the broker is."""
    place = parts.ledger.run(lambda session: enrolments.place_of(session, caller))
    profile = place.profile if place else None
    return HostSelf(name=caller.host, profile=profile, project=caller.project, redis_url=_broker(parts))


@router.get("/hosts/join.sh")
def join(request: Request, parts: Parts, caller: HostCaller) -> Response:
    """Give the script that installs a worker on a board, with the address that it was asked at."""
    place = parts.ledger.run(lambda session: enrolments.place_of(session, caller))
    profile = place.profile if place else "auto"
    script = join_script(str(request.base_url).rstrip("/"), caller.host or "", _environments(profile))
    return Response(script, media_type="text/x-shellscript")


@router.get("/hosts/" + SOURCE_NAME)
def source(parts: Parts, caller: HostCaller) -> Response:
    """Give this farm's own source, so that a host has the farm's very version."""
    return Response(source_archive(), media_type="application/gzip")


def _environments(profile: str) -> list[str]:
    known = catalog.profiles().get(profile)
    runtimes = known.runtimes.values() if known else ()
    return sorted({runtime.environment for runtime in runtimes}) or ["litert", "onnxruntime"]


def _broker(parts: Context) -> str | None:
    url = parts.config.worker_redis_url
    return url.get_secret_value() if url else None
