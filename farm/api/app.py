"""The application: its parts, its routes, its life."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from farm import __version__
from farm.api import enrolments, hosts, info, jobs, models, problems, uploads
from farm.api.context import Context
from farm.api.notices import Notices
from farm.api.views import ApiViews
from farm.domain.errors import ConfigurationError, FarmUnreachable
from farm.ledger import Ledger
from farm.ledger.access import add_token
from farm.settings import Settings, settings
from farm.store import Store

log = structlog.get_logger()


Pages = Callable[[ApiViews], APIRouter]


def create_app(config: Settings, pages: Pages | None = None) -> FastAPI:
    """Build the API on a migrated ledger; `pages` makes the web pages from its views."""
    url = config.database_url.get_secret_value()
    parts = Context(config, Ledger(url, application="farm-api"), Store(config), Notices(url))

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with parts.notices.listening():
            yield
        parts.ledger.close()

    app = FastAPIOffline(
        title="Edge model farm",
        version=__version__,
        summary="Models go in; verified files and honest numbers for each hardware target come out.",
        lifespan=life,
        redoc_url=None,
        generate_unique_id_function=operation_id,
    )
    app.state.context = parts
    problems.install(app)
    for module in (info, uploads, models, jobs, enrolments, hosts):
        app.include_router(module.router, prefix="/v1")
    if pages is not None:
        app.include_router(pages(ApiViews(parts)))
    return app


def operation_id(route: APIRoute) -> str:
    """Name an operation of the documents by its part of the API: `show` of jobs and of models are two."""
    return "_".join([*route.path_format.split("/")[2:3], route.name])


def prepare(config: Settings) -> None:
    """Migrate the ledger and store the tokens that the environment brings.

    Raises:
        ConfigurationError: no PostgreSQL answers at FARM_DATABASE_URL.
    """
    ledger = _reached_ledger(config.database_url.get_secret_value())
    ledger.migrate()

    def add(session: Session) -> None:
        for name, role in (("FARM_BOOTSTRAP_USER_TOKEN", "user"), ("FARM_BOOTSTRAP_HOST_TOKEN", "host")):
            if token := os.environ.get(name):
                add_token(session, token, "user" if role == "user" else "host")

    ledger.run(add)
    ledger.close()


def _reached_ledger(url: str) -> Ledger:
    """Open the ledger and hear it once, so that a wrong address is told as one."""
    remedy = (
        "Set FARM_DATABASE_URL to postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME, or let `farm up` bring its own."
    )
    try:
        shown = make_url(url).render_as_string(hide_password=True)
        ledger = Ledger(url, application="farm-migration", pool_size=1)
        ledger.ping()
    except (ArgumentError, ImportError, FarmUnreachable) as exc:
        if isinstance(exc, FarmUnreachable):
            why = " ".join(exc.message.split())
            raise ConfigurationError(f"FARM_DATABASE_URL is {shown}. {why}", remedy=remedy) from exc
        raise ConfigurationError(f"FARM_DATABASE_URL names no PostgreSQL database: {exc}.", remedy=remedy) from exc
    return ledger


def _reached_store(config: Settings) -> Store:
    """Open the store and see that it keeps its promises."""
    try:
        store = Store(config)
        store.ping()
    except ConfigurationError as exc:
        keys = "FARM_S3_ACCESS_KEY, FARM_S3_SECRET_KEY and FARM_S3_BUCKET"
        message = f"FARM_S3_ENDPOINT is {config.s3_endpoint}. {exc.message}"
        raise ConfigurationError(
            message, remedy=f"Set FARM_S3_ENDPOINT, {keys}, or let `farm up` bring its own."
        ) from exc
    store.prove()
    return store


def main(pages: Pages | None = None) -> None:
    """Prepare the ledger and the bucket, then serve until told to stop.

    Raises:
        ConfigurationError: PostgreSQL or S3 does not answer where the settings say; naming the setting.
    """
    config = settings()
    prepare(config)
    _reached_store(config)
    address, _, port = config.listen.rpartition(":")
    app = create_app(config, pages)
    server = _Server(
        uvicorn.Config(app, host=address, port=int(port), log_level="warning", server_header=False),
        on_stop=app.state.context.notices.close,
    )
    log.info("The API listens.", action="start", address=config.listen)
    server.run()


class _Server(uvicorn.Server):
    """A server that ends its long polls when it is told to stop."""

    def __init__(self, config: uvicorn.Config, *, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)
