"""The API's own functions in the form the web pages ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from farm.api import info, jobs
from farm.api.context import Context
from farm.ledger import jobs as ledger_jobs
from farm.ledger.access import Caller, identify
from farm.ledger.host_views import host_views
from farm.wire.hosts import HostView
from farm.wire.jobs import Event, JobView, TargetView


@dataclass(frozen=True, slots=True)
class ApiViews:
    """Answers for one project at a time; raises what the API's routes raise."""

    parts: Context

    def project_of(self, token: str) -> str:
        return self.parts.ledger.run(lambda session: identify(session, token, "user")).project

    def jobs(self, project: str, *, limit: int, before: datetime | None) -> list[JobView]:
        def read(session: Session) -> list[JobView]:
            found = ledger_jobs.newest(session, project, limit=limit, state=None, label=None, before=before)
            return [ledger_jobs.view(session, job) for job in found]

        return self.parts.ledger.run(read)

    def job(self, project: str, job: str) -> JobView:
        return jobs.show(job, self.parts, _user(project))

    def report(self, project: str, job: str) -> dict[str, Any]:
        return jobs.report(job, self.parts, _user(project))

    async def events(self, project: str, job: str, after: int | None) -> AsyncIterator[Event | None]:
        async for event in jobs.follow(self.parts, _user(project), job, after or 0):
            yield event

    def cancel(self, project: str, job: str) -> None:
        jobs.cancel(job, self.parts, _user(project))

    def retry(self, project: str, job: str) -> str:
        return jobs.retry(job, self.parts, _user(project)).job

    def hosts(self, project: str) -> list[HostView]:
        grace_s = self.parts.config.host_grace_s
        return self.parts.ledger.run(lambda session: host_views(session, grace_s=grace_s, project=project))

    def targets(self, project: str) -> list[TargetView]:
        return info.targets(self.parts, _user(project))


def _user(project: str) -> Caller:
    return Caller(project, "user", None)
