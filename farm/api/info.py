"""What the farm can do and whether its parts answer."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from farm import __version__, catalog
from farm.api.context import Parts, User
from farm.domain.errors import FarmError
from farm.domain.facts import Format
from farm.domain.stage import TRANSFORMS, StageSpec
from farm.ledger.hosts import live_hosts
from farm.queue import Broker
from farm.wire.jobs import RouteView, TargetView

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
            architecture=profile.architecture[0],
            runtimes=sorted(profile.runtimes),
            live_hosts=[host.name for host in live if f"target.{name}" in host.serves],
            verified=profile.verified,
        )
        for name, profile in sorted(catalog.profiles().items())
        if not profile.abstract
    ]


@router.get("/routes")
def routes(parts: Parts, caller: User, source: Format | None = None, target: Format | None = None) -> list[RouteView]:
    """List the edges of the format graph, with tool versions and why one is not available now."""
    live = parts.ledger.run(lambda session: live_hosts(session, grace_s=parts.config.host_grace_s))
    found = [s for s in catalog.catalogue().specs.values() if s.kind in TRANSFORMS]
    return [
        _route(spec, catalog.catalogue().queue_for(spec, None, live) is not None)
        for spec in sorted(found, key=lambda spec: (str(spec.source), spec.cost, spec.name))
        if source in (None, spec.source) and target in (None, spec.target)
    ]


def _route(spec: StageSpec, available: bool) -> RouteView:
    pins = catalog.catalogue().pins.get(spec.environment, {})
    return RouteView(
        stage=spec.name,
        kind=spec.kind.value,
        source=spec.source,
        target=spec.target,
        recipe=spec.recipe,
        environment=spec.environment,
        tools={tool: pins.get(tool, "unknown") for tool in spec.tools},
        available=available,
        why_not=None if available else f"No live build host has environment {spec.environment} at this farm's version.",
    )


def _ask(part: str, ping: Callable[[], None]) -> str:
    """Ask one part; why it does not answer is the operator's to read in the log, not any caller's."""
    try:
        ping()
    except (FarmError, OSError) as error:
        log.warning("A part does not answer.", action="health", part=part, error=str(error))
        return "does not answer"
    return "ok"
