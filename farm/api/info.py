"""What the farm can do and whether its parts answer."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from farm import __version__, catalog
from farm.api.availability import Availability
from farm.api.context import Context, Parts, User
from farm.domain.errors import FarmError
from farm.ledger.hosts import live_hosts
from farm.queue import Broker
from farm.wire.jobs import ChainView, RouteView, TargetView
from workers import environments

log = structlog.get_logger()
router = APIRouter(tags=["farm"])


@router.get("/health")
def health(parts: Parts) -> JSONResponse:
    """Ask ledger, queue and store; 503 when one does not answer."""
    broker = Broker(parts.config.redis_url.get_secret_value())
    said = {
        "ledger": _ask("ledger", parts.ledger.ping),
        "queue": _ask("queue", broker.ping),
        "store": _ask("store", parts.store.ping),
    }
    well = all(answer == "ok" for answer in said.values())
    return JSONResponse(
        {"status": "ok" if well else "degraded", "version": __version__, "parts": said}, 200 if well else 503
    )


@router.get("/targets")
def targets(parts: Parts, caller: User) -> list[TargetView]:
    """List the profiles a job may name, and who serves them now."""
    live = parts.ledger.run(lambda session: live_hosts(session, grace_s=parts.config.host_grace_s))
    return [
        TargetView(
            name=name,
            title=profile.title,
            architecture=", ".join(profile.architecture),
            runtimes=sorted(profile.runtimes),
            live_hosts=[host.name for host in live if f"target.{name}" in host.serves],
            verified=profile.verified,
        )
        for name, profile in sorted(catalog.profiles().items())
        if not profile.abstract
    ]


@router.get("/routes")
def routes(parts: Parts, caller: User, source: str | None = None, target: str | None = None) -> list[RouteView]:
    """List the edges of the format graph, with tool versions, who has them, and why one is not available now."""
    return _availability(parts).edges(source, target)


@router.get("/routes/chains")
def chains(parts: Parts, caller: User, source: str, target: str) -> list[ChainView]:
    """List the ranked chains from a format to a format or runtime, and which is used for which recipe."""
    return _availability(parts).chains(source, target)


def _availability(parts: Context) -> Availability:
    live = parts.ledger.run(lambda session: live_hosts(session, grace_s=parts.config.host_grace_s))
    pythons = {name: python for name in environments.names() if (python := environments.wanted(name).python)}
    return Availability(catalog.catalogue(), live, pythons)


def _ask(part: str, ping: Callable[[], None]) -> str:
    """Ask one part; why it does not answer is the operator's to read in the log, not any caller's."""
    try:
        ping()
    except (FarmError, OSError) as error:
        log.warning("A part does not answer.", action="health", part=part, error=str(error))
        return "does not answer"
    return "ok"
