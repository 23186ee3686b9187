"""A farm's data for its pages, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastapi import FastAPI

from farm.domain.errors import NotFound, Unauthorized
from farm.web.router import router
from farm.wire.hosts import HostView
from farm.wire.jobs import Event, JobView, TargetView
from tests import report_samples as samples
from tests.farm_double import TOKEN, host, job_view, target


@dataclass
class ViewsDouble:
    """Jobs of one project; every other one is not found."""

    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, job: str, state: str, report: dict[str, Any], **changes: Any) -> None:
        self.views[job] = job_view(job, state, **changes)
        self.reports[job] = report | {"job": job, "state": state}

    def project_of(self, token: str) -> str:
        if token != TOKEN:
            raise Unauthorized("The token is unknown.")
        return "default"

    def jobs(self, project: str, *, limit: int, before: datetime | None) -> list[JobView]:
        return [JobView.model_validate(view) for view in self.views.values()][:limit]

    def job(self, project: str, job: str) -> JobView:
        if job not in self.views:
            raise NotFound(f"There is no job {job!r}.", remedy="See the list of jobs.")
        return JobView.model_validate(self.views[job])

    def report(self, project: str, job: str) -> dict[str, Any]:
        self.job(project, job)
        return self.reports[job]

    async def events(self, project: str, job: str, after: int | None) -> AsyncIterator[Event | None]:
        yield None
        number = after or 0
        while self.views[job]["state"] not in ("succeeded", "cancelled"):
            await asyncio.wait_for(self.changed.wait(), 10)
            self.changed.clear()
            number += 1
            data = {"state": self.views[job]["state"]}
            at = samples.report()["created"]
            yield Event.model_validate({"id": number, "event": "job", "at": at, "data": data})

    def cancel(self, project: str, job: str) -> None:
        self.cancelled.append(job)
        self.views[job]["state"] = "cancelled"

    def retry(self, project: str, job: str) -> str:
        self.add("j-again", "running", samples.report(), retry_of=job)
        return "j-again"

    def hosts(self, project: str) -> list[HostView]:
        listed = [host("bench-1"), host("qemu-1", "emulated-aarch64", emulated=True), host("gone", live=False)]
        return [HostView.model_validate(one) for one in listed]

    def targets(self, project: str) -> list[TargetView]:
        return [TargetView.model_validate(one) for one in (target("x86-64-v3", "bench-1"), target("raspberry-pi-5"))]


def app_of(views: ViewsDouble) -> FastAPI:
    app = FastAPI()
    app.include_router(router(views))
    return app


def filled() -> ViewsDouble:
    views = ViewsDouble()
    running = ["onnx-to-tflite of digits for litert int8-static on bench-1", "measure-onnxruntime of det on bench-1"]
    progress = {"steps_done": 7, "steps_total": 18, "running": running}
    views.add("j-run", "running", samples.report(samples.result(), name="nightly"), name="nightly", progress=progress)
    views.add(
        "j-done",
        "partial",
        samples.full_report(),
        name="demo",
        labels={"team": "vision"},
        results_by_verdict={"ok": 2, "degraded": 1, "failed": 1},
        progress={"steps_done": 18, "steps_total": 18, "running": []},
    )
    views.add(
        "j-refused", "refused", samples.refused_report(), progress={"steps_done": 0, "steps_total": 0, "running": []}
    )
    views.add("j-evil", "succeeded", samples.report(samples.result(model=samples.HOSTILE)), name=samples.HOSTILE)
    return views
