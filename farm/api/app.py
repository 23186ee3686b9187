"""The application: its parts, its routes, its life."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy.orm import Session

from farm import __version__
from farm.api import hosts, info, jobs, models, problems, uploads, web
from farm.api.context import Context
from farm.api.notices import Notices
from farm.ledger import Ledger
from farm.ledger.access import add_token
from farm.settings import Settings, settings
from farm.store import Store

log = structlog.get_logger()


def create_app(config: Settings) -> FastAPI:
    """Build the API on a migrated ledger."""
    url = config.database_url.get_secret_value()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        ledger = Ledger(url)
        async with Notices(url).listening() as notices:
            app.state.context = Context(config, ledger, Store(config), notices)
            yield
        ledger.close()

    app = FastAPI(
        title="Edge model farm",
        version=__version__,
        summary="Models go in; verified files and honest numbers for each hardware target come out.",
        lifespan=life,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app)
    for module in (info, uploads, models, jobs, hosts):
        app.include_router(module.router, prefix="/v1")
    web.mount(app)
    return app


def prepare(config: Settings) -> None:
    """Migrate the ledger and store the tokens that the environment brings."""
    ledger = Ledger(config.database_url.get_secret_value(), pool_size=1)
    ledger.migrate()

    def add(session: Session) -> None:
        for name, role in (("FARM_BOOTSTRAP_USER_TOKEN", "user"), ("FARM_BOOTSTRAP_HOST_TOKEN", "host")):
            if token := os.environ.get(name):
                add_token(session, token, "user" if role == "user" else "host")

    ledger.run(add)
    ledger.close()


def main() -> None:
    config = settings()
    prepare(config)
    Store(config).ping()
    address, _, port = config.listen.rpartition(":")
    log.info("The API listens.", action="start", address=config.listen)
    server = _Server(
        uvicorn.Config(create_app(config), host=address, port=int(port), log_level="warning", server_header=False)
    )
    server.run()


class _Server(uvicorn.Server):
    """A server that ends its long polls when it is told to stop."""

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self.config.app.state.context.notices.close()  # type: ignore[union-attr]
        await super().shutdown(sockets)  # type: ignore[arg-type]
