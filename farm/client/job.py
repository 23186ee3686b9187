"""A submitted job: wait for it, read its results, fetch its files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.client.connection import Connection
from farm.client.events import EventStream
from farm.domain.errors import FarmUnreachable
from farm.wire.jobs import ENDED, Event, JobView, LogView, ResultFiles

if TYPE_CHECKING:
    from farm.client.download import Fetched, OnFile
    from farm.report.explain import Story
    from farm.report.model import Answer, Report, Result

OnEvent = Callable[[Event], None]
OnView = Callable[[JobView], None]
STREAM_SILENCE_S = 20.0
POLL_S = 1.0
REFRESH_S = 0.5


class Job:
    """A job as the farm knows it; attributes show the state last seen, `refresh` asks again."""

    def __init__(self, connection: Connection, view: JobView) -> None:
        self._connection = connection
        self.view = view

    @property
    def id(self) -> str:
        return self.view.job

    @property
    def state(self) -> str:
        return self.view.state

    @property
    def ended(self) -> bool:
        return self.view.state in ENDED

    @property
    def reasons(self) -> list[str]:
        """Return why the job was refused or could not go on, one full sentence each; empty when all is well."""
        return [str(reason["message"]) for reason in self.view.reasons]

    @property
    def results(self) -> list[Result]:
        """Return what each model x target x runtime x recipe came to so far."""
        return list(self.report().results)

    @property
    def answer(self) -> Answer | None:
        """Return what the farm chose; None before the end, without a goal, and for several models: see `answers`."""
        return self.report().answer

    def refresh(self) -> JobView:
        self.view = JobView.model_validate(self._connection.get(f"/v1/jobs/{self.id}"))
        return self.view

    def wait(
        self, timeout: float | None = None, *, on_event: OnEvent | None = None, on_view: OnView | None = None
    ) -> Job:
        """Block until the job has ended, across restarts of the farm's API.

        Args:
            timeout: seconds; None waits without limit.
            on_event: called with each event.
            on_view: called with the job whenever it may have moved.

        Raises:
            TimeoutError: the job goes on.
            FarmUnreachable: the farm stayed away for longer than the connection's patience.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        stream = EventStream(self._connection, self.id)
        self._look(on_view)
        while not self.ended:
            self._follow(stream, deadline, on_event, on_view)
            self._look(on_view)
            if not self.ended and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Job {self.id} is {self.state} after {timeout:g} s; it goes on without us.")
        return self

    def report(self) -> Report:
        from farm.report.model import Report

        return Report.model_validate(self.raw_report())

    def raw_report(self) -> dict[str, Any]:
        """Return the report as the farm sent it."""
        answer: dict[str, Any] = self._connection.get(f"/v1/jobs/{self.id}/report")
        return answer

    def files(self) -> list[ResultFiles]:
        return [ResultFiles.model_validate(item) for item in self._connection.get(f"/v1/jobs/{self.id}/files")]

    def download(self, folder: str | Path, *, on_file: OnFile | None = None) -> list[Fetched]:
        """Fetch every result's files into `folder`/model/target/runtime/recipe, checking each digest.

        Files that are there and right are kept; broken-off ones are resumed.

        Raises:
            DigestMismatch: bytes differ from what the farm published.
        """
        from farm.client.download import download_results

        return download_results(self.files, Path(folder), on_file=on_file)

    def cancel(self) -> JobView:
        self.view = JobView.model_validate(self._connection.post(f"/v1/jobs/{self.id}/cancel"))
        return self.view

    def retry(self) -> Job:
        """Submit the same request again, as a new job that refers to this one."""
        return Job(self._connection, JobView.model_validate(self._connection.post(f"/v1/jobs/{self.id}/retry")))

    def logs(self) -> list[LogView]:
        return [LogView.model_validate(item) for item in self._connection.get(f"/v1/jobs/{self.id}/logs")]

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state}>"

    def explain(self) -> list[Story]:
        """Tell the story of every failed or poor result: what happened, what it means, what to do and by whom."""
        from farm.report.explain import explain

        return explain(self.report())

    def _repr_html_(self) -> str:
        from farm.report.page import render_fragment

        return render_fragment(self.report())

    def _look(self, on_view: OnView | None) -> None:
        self.refresh()
        if on_view is not None:
            on_view(self.view)

    def _follow(
        self, stream: EventStream, deadline: float | None, on_event: OnEvent | None, on_view: OnView | None
    ) -> None:
        """Read events until the job ended, the stream broke, or time is up."""
        left_s = STREAM_SILENCE_S if deadline is None else min(STREAM_SILENCE_S, deadline - time.monotonic())
        looked = time.monotonic()
        try:
            for event in stream.read(read_timeout_s=max(left_s, 0.05)):
                if on_event is not None:
                    on_event(event)
                if _says_ended(event) or (deadline is not None and time.monotonic() >= deadline):
                    return
                if time.monotonic() - looked >= REFRESH_S:
                    self._look(on_view)
                    looked = time.monotonic()
                if self.ended:
                    return
        except FarmUnreachable:
            pass
        self._pause(deadline)

    def _pause(self, deadline: float | None) -> None:
        """Wait a moment after a broken stream; without any stream this is the polling interval."""
        left_s = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
        self._connection.sleep(max(left_s, 0.0))


def _says_ended(event: Event) -> bool:
    return event.event == "job" and event.data.get("state") in ENDED
