"""What the pages need to know, and who tells them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Protocol

from farm.wire.hosts import HostView
from farm.wire.jobs import Event, JobView, TargetView


class Views(Protocol):
    """The data behind the pages; `project` is what `project_of` said of the caller's token.

    Methods are called on a worker thread, `events` on the event loop. They raise FarmError as the API does.
    """

    def project_of(self, token: str) -> str:
        """Return the project of a user's token.

        Raises:
            Unauthorized: the token is unknown or revoked.
        """
        ...

    def jobs(self, project: str, *, limit: int, before: datetime | None) -> list[JobView]:
        """List jobs, newest first, that were created before `before`."""
        ...

    def job(self, project: str, job: str) -> JobView: ...

    def report(self, project: str, job: str) -> dict[str, Any]: ...

    def events(self, project: str, job: str, after: int | None) -> AsyncIterator[Event | None]:
        """Yield a job's events behind the id `after` until it has ended; None now and then, as a sign of life."""
        ...

    def cancel(self, project: str, job: str) -> None: ...

    def retry(self, project: str, job: str) -> str:
        """Submit a job's request again and return the new job's id."""
        ...

    def hosts(self, project: str) -> list[HostView]: ...

    def targets(self, project: str) -> list[TargetView]: ...
