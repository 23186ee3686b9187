"""Models on their own: register one, learn its facts."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from farm import catalog
from farm.api.context import Parts, User
from farm.api.notices import wait_for
from farm.api.uploads import proven
from farm.domain.binding import inspect_step
from farm.domain.plan import Input
from farm.ledger import models
from farm.ledger.events import step_topic
from farm.ledger.hosts import live_hosts
from farm.wire.jobs import ModelCreate, ModelView

router = APIRouter(tags=["models"])


@router.post("/models", status_code=201)
def register(asked: ModelCreate, parts: Parts, caller: User) -> ModelView:
    """Register uploaded files as a model and have it inspected in the sandbox."""
    artifact = asked.artifact.artifact()
    spec = catalog.inspector(catalog.source_format(asked.file_name, artifact))
    proven(parts, caller.project, list(artifact.files))

    def store(session: Session) -> ModelView:
        world = catalog.world(live_hosts(session, grace_s=parts.config.host_grace_s))
        inspection = inspect_step(Input("model", artifact=artifact), spec, world)
        return models.view(session, models.register(session, caller.project, asked.file_name, artifact, inspection))

    return parts.ledger.run(store)


@router.get("/models/{model}")
async def show(model: str, parts: Parts, caller: User, wait_s: Annotated[float, Query(ge=0, le=60)] = 0.0) -> ModelView:
    """Show a model; `wait_s` holds the answer until inspection has ended, or that long."""
    until = time.monotonic() + wait_s

    def read(session: Session) -> tuple[ModelView, str]:
        row = models.get(session, caller.project, model)
        return models.view(session, row), row.inspect_step

    shown, step_id = await run_in_threadpool(parts.ledger.run, read)
    with parts.notices.watch(step_topic(step_id)) as event:
        while shown.state == "inspecting" and (left_s := until - time.monotonic()) > 0:
            shown, _ = await run_in_threadpool(parts.ledger.run, read)
            if shown.state != "inspecting" or parts.notices.closing.is_set():
                break
            await wait_for(event, min(left_s, 1.0))
    return shown
