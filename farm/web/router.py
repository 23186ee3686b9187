"""The pages' routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from farm.domain.errors import NotFound, Unauthorized
from farm.domain.recipe import RECIPES
from farm.report.model import Report
from farm.report.page import context, css, render_html
from farm.web.pages import HEADERS, PageRoute, page, see
from farm.web.session import form_of, local_path, sign_in, sign_out, token_of
from farm.web.views import Views
from farm.wire.jobs import ENDED, Event

PAGE_LENGTH = 50
ASSETS = {"farm.js": "text/javascript", "icon.svg": "image/svg+xml"}
ASSET_HEADERS = {"Cache-Control": "max-age=300", "X-Content-Type-Options": "nosniff"}
Form = Annotated[dict[str, str], Depends(form_of)]


def router(views: Views) -> APIRouter:
    """Make the routes of all pages; mount them at "/"."""
    made, session, pages = APIRouter(route_class=PageRoute, include_in_schema=False), Session(views), Pages(views)
    made.add_api_route("/assets/{name}", asset)
    made.add_api_route("/login", session.login_page)
    made.add_api_route("/login", session.login, methods=["POST"])
    made.add_api_route("/logout", session.logout, methods=["POST"])
    made.add_api_route("/", pages.jobs)
    made.add_api_route("/hosts", pages.hosts)
    made.add_api_route("/submit", pages.submit)
    made.add_api_route("/jobs/{job}", pages.job)
    made.add_api_route("/jobs/{job}/live", pages.live)
    made.add_api_route("/jobs/{job}/events", pages.events)
    made.add_api_route("/jobs/{job}/report.json", pages.report_json)
    made.add_api_route("/jobs/{job}/report.html", pages.report_page)
    made.add_api_route("/jobs/{job}/cancel", pages.cancel, methods=["POST"])
    made.add_api_route("/jobs/{job}/retry", pages.retry, methods=["POST"])
    return made


def asset(name: str) -> Response:
    if name == "farm.css":
        return Response(str(css()), media_type="text/css", headers=ASSET_HEADERS)
    if name not in ASSETS:
        raise NotFound(f"There is no asset {name!r}.")
    text = files("farm.web").joinpath("assets", name).read_text(encoding="utf-8")
    return Response(text, media_type=ASSETS[name], headers=ASSET_HEADERS)


@dataclass(frozen=True, slots=True)
class Session:
    """Signing in and out."""

    views: Views

    def login_page(self, request: Request, next: str | None = None) -> Response:
        return page(request, "login.html", next=local_path(next), wrong=False)

    async def login(self, request: Request, form: Form) -> Response:
        token, target = form.get("token", "").strip(), local_path(form.get("next"))
        try:
            await run_in_threadpool(self.views.project_of, token)
        except Unauthorized:
            return page(request, "login.html", status=401, next=target, wrong=True)
        response = see(target)
        sign_in(response, token, secure=request.url.scheme == "https")
        return response

    async def logout(self, form: Form) -> Response:
        response = see("/login")
        sign_out(response)
        return response


@dataclass(frozen=True, slots=True)
class Pages:
    """What a signed-in user sees and does."""

    views: Views

    def jobs(self, request: Request, before: datetime | None = None) -> Response:
        listed = self.views.jobs(self._project(request), limit=PAGE_LENGTH, before=before)
        older = listed[-1].created.isoformat() if len(listed) == PAGE_LENGTH else None
        busy = before is None and any(job.state not in ENDED for job in listed)
        return page(request, "jobs.html", jobs=listed, older=older, busy=busy)

    def job(self, request: Request, job: str) -> Response:
        return page(request, "job.html", **self._job(request, job))

    def live(self, request: Request, job: str) -> Response:
        return page(request, "live.html", **self._job(request, job))

    async def events(self, request: Request, job: str) -> Response:
        project = await run_in_threadpool(self._project, request)
        await run_in_threadpool(self.views.job, project, job)
        last = request.headers.get("last-event-id", "")
        told = self.views.events(project, job, int(last) if last.isdecimal() else None)
        return StreamingResponse(_stream(told), media_type="text/event-stream", headers=HEADERS)

    def report_json(self, request: Request, job: str) -> Response:
        return JSONResponse(self.views.report(self._project(request), job), headers=HEADERS)

    def report_page(self, request: Request, job: str) -> Response:
        html = render_html(self.views.report(self._project(request), job))
        name = "".join(c for c in job if c.isascii() and (c.isalnum() or c in "-_"))
        disposition = {"Content-Disposition": f'attachment; filename="report-{name}.html"'}
        return HTMLResponse(html, headers=HEADERS | disposition)

    async def cancel(self, request: Request, job: str, form: Form) -> Response:
        project = await run_in_threadpool(self._project, request)
        await run_in_threadpool(self.views.cancel, project, job)
        return see(f"/jobs/{job}")

    async def retry(self, request: Request, job: str, form: Form) -> Response:
        project = await run_in_threadpool(self._project, request)
        return see(f"/jobs/{await run_in_threadpool(self.views.retry, project, job)}")

    def hosts(self, request: Request) -> Response:
        project, now = self._project(request), datetime.now(UTC)
        listed = sorted(self.views.hosts(project), key=lambda host: (not host.live, host.name))
        ages_s = {host.name: (now - host.last_heartbeat).total_seconds() for host in listed}
        return page(request, "hosts.html", hosts=listed, targets=self.views.targets(project), ages_s=ages_s)

    def submit(self, request: Request) -> Response:
        targets = self.views.targets(self._project(request))
        return page(request, "submit.html", targets=targets, recipes=list(RECIPES.values()))

    def _project(self, request: Request) -> str:
        return self.views.project_of(token_of(request))

    def _job(self, request: Request, job: str) -> dict[str, Any]:
        project = self._project(request)
        view = self.views.job(project, job)
        report = Report.model_validate(self.views.report(project, job))
        return {"job": view, "ended": view.state in ENDED, **context(report)}


async def _stream(told: AsyncIterator[Event | None]) -> AsyncIterator[str]:
    """Tell the page that something moved; it asks for what it shows."""
    async for event in told:
        yield ": still here\n\n" if event is None else f"id: {event.id}\nevent: {event.event}\ndata: {{}}\n\n"
    yield "event: end\ndata: {}\n\n"
