"""Jobs: submit, watch, report, cancel, retry, fetch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from farm.api.context import Context, Parts, User
from farm.api.notices import wait_for
from farm.api.uploads import proven
from farm.domain.artifact import FileRef
from farm.domain.codec import decode, digest
from farm.domain.errors import BadRequest, Conflict
from farm.intake import begin
from farm.ledger import jobs, logs
from farm.ledger.access import Caller
from farm.ledger.events import events_after, job_topic
from farm.ledger.hosts import live_hosts
from farm.ledger.tables import Result
from farm.publication import folder_of, published_files, published_prefix
from farm.wire.jobs import ENDED, Event, JobRequest, JobView, LogView, ResultFiles
from farm.wire.transfers import Download

router = APIRouter(tags=["jobs"])
_KEEPALIVE_S = 10.0


@router.post("/jobs", status_code=201)
def submit(
    request: JobRequest,
    parts: Parts,
    caller: User,
    response: Response,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> JobView:
    """Submit a job. Same Idempotency-Key and body: the same job. A request that is wrong is stored as refused."""
    proven(parts, caller.project, _files_of(request))
    view, is_new = parts.ledger.run(lambda session: _accept(session, parts, caller, request, idempotency_key))
    response.status_code = 201 if is_new else 200
    return view


@router.get("/jobs")
def list_jobs(
    parts: Parts,
    caller: User,
    state: str | None = None,
    label: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: datetime | None = None,
) -> list[JobView]:
    """List jobs, newest first; `label` is KEY=VALUE."""
    pair = _label(label)

    def read(session: Session) -> list[JobView]:
        found = jobs.newest(session, caller.project, limit=limit, state=state, label=pair, before=before)
        return [jobs.view(session, job) for job in found]

    return parts.ledger.run(read)


@router.get("/jobs/{job}")
def show(job: str, parts: Parts, caller: User) -> JobView:
    """Show a job without its results."""
    return parts.ledger.run(lambda session: jobs.view(session, jobs.get(session, caller.project, job)))


@router.get("/jobs/{job}/report")
def report(job: str, parts: Parts, caller: User) -> dict[str, Any]:
    """Report a job with all results, at any time; conforms to report.schema.json."""
    return read_report(parts, caller, job)


@router.get("/jobs/{job}/report.html", response_class=HTMLResponse)
def report_page(job: str, parts: Parts, caller: User) -> HTMLResponse:
    """Report a job as one self-contained page."""
    from farm.report.page import render_html

    return HTMLResponse(render_html(read_report(parts, caller, job)))


@router.post("/jobs/{job}/cancel")
def cancel(job: str, parts: Parts, caller: User) -> JobView:
    """Cancel a job: its steps stop within two seconds, unless another live job wants them."""
    return parts.ledger.run(lambda session: jobs.view(session, jobs.cancel(session, caller.project, job)))


@router.post("/jobs/{job}/retry", status_code=201)
def retry(job: str, parts: Parts, caller: User) -> JobView:
    """Submit an ended job again as a new one; what succeeded is reused, what failed is tried anew."""

    def again(session: Session) -> JobView:
        old = jobs.get(session, caller.project, job)
        if old.ended is None:
            raise Conflict(f"Job {job} has not ended; cancel it first.")
        return _accept(session, parts, caller, JobRequest.model_validate(old.request), None, retry_of=old.id)[0]

    return parts.ledger.run(again)


@router.get("/jobs/{job}/files")
def files(job: str, parts: Parts, caller: User) -> list[ResultFiles]:
    """List every published file with a URL to fetch it by."""

    def read(session: Session) -> list[Result]:
        rows = jobs.results_of(session, jobs.get(session, caller.project, job).id)
        return [row for row in rows if row.published]

    return [_result_files(parts, row) for row in parts.ledger.run(read)]


@router.get("/jobs/{job}/logs")
def show_logs(job: str, parts: Parts, caller: User) -> list[LogView]:
    """List the log of every attempt, in the order of the steps."""

    def read(session: Session) -> list[logs.AttemptLog]:
        return logs.of_job(session, jobs.get(session, caller.project, job).id)

    store = parts.store.of(caller.project)
    return [
        LogView(
            step=log.step,
            stage=log.stage,
            attempt=log.number,
            host=log.host,
            state=log.state,
            url=store.presign_blob_get(log.file) if log.file else None,
        )
        for log in parts.ledger.run(read)
    ]


@router.get("/jobs/{job}/events")
async def events(
    job: str, parts: Parts, caller: User, last_event_id: Annotated[int, Header()] = 0
) -> StreamingResponse:
    """Stream a job's events (server-sent events) until it has ended; Last-Event-ID resumes."""
    await run_in_threadpool(show, job, parts, caller)
    return StreamingResponse(_as_stream(follow(parts, caller, job, last_event_id)), media_type="text/event-stream")


def read_report(parts: Context, caller: Caller, job: str) -> dict[str, Any]:
    return parts.ledger.run(lambda session: jobs.report(session, jobs.get(session, caller.project, job)))


def _accept(
    session: Session,
    parts: Context,
    caller: Caller,
    request: JobRequest,
    idempotency_key: str | None,
    *,
    retry_of: str | None = None,
) -> tuple[JobView, bool]:
    """Store a job with its inspections dispatched, or refused with every reason."""
    said = request.model_dump(mode="json")
    job, is_new = jobs.accept(
        session, caller.project, said,
        request_digest=digest(said), idempotency_key=idempotency_key, retry_of=retry_of,
    )  # fmt: skip
    if is_new:
        begin(session, job, request, live_hosts(session, grace_s=parts.config.host_grace_s))
    session.refresh(job)
    return jobs.view(session, job), is_new


def _files_of(request: JobRequest) -> list[FileRef]:
    entries = [f for model in request.models for f in (*model.artifact.files, model.calibration, model.evaluation) if f]
    return [entry.ref() for entry in entries]


def _label(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    key, equals, value = text.partition("=")
    if not equals:
        raise BadRequest(f"Label {text!r} is not of the form KEY=VALUE.")
    return key, value


def _result_files(parts: Context, row: Result) -> ResultFiles:
    body = row.body or {}
    prefix = published_prefix(row.job_id, body)
    listed = [*published_files(body), *(decode(FileRef, document) for document in row.documents)]
    return ResultFiles(
        folder=folder_of(body),
        files=[
            Download(
                name=file.name,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                url=parts.store.presign_get(f"{prefix}/{file.name}", file.name.rpartition("/")[2]),
            )
            for file in listed
        ],
    )


async def follow(parts: Context, caller: Caller, job: str, last_id: int) -> AsyncIterator[Event | None]:
    """Yield a job's events behind `last_id` until it has ended; None now and then, as a sign of life.

    Raises:
        NotFound: no such job in the caller's project.
    """
    await run_in_threadpool(show, job, parts, caller)
    with parts.notices.watch(job_topic(job)) as changed:
        while not parts.notices.closing.is_set():
            for event in await run_in_threadpool(_events, parts, job, last_id):
                last_id = event.id
                yield event
                if event.event == "job" and event.data.get("state") in ENDED:
                    return
            if not await wait_for(changed, _KEEPALIVE_S):
                yield None


async def _as_stream(followed: AsyncIterator[Event | None]) -> AsyncIterator[str]:
    async for event in followed:
        if event is None:
            yield ": still here\n\n"
        else:
            yield f"id: {event.id}\nevent: {event.event}\ndata: {event.model_dump_json()}\n\n"


def _events(parts: Context, job: str, last_id: int) -> list[Event]:
    found = parts.ledger.run(lambda session: events_after(session, job, last_id))
    return [Event.model_validate({"id": e.id, "event": e.kind, "at": e.at, "data": e.data}) for e in found]
