"""Server-sent events of a job, read across broken connections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pydantic import ValidationError

from farm.client.connection import Connection
from farm.wire.jobs import Event


@dataclass(slots=True)
class EventStream:
    """Reads one job's events; after a break, `read` goes on behind the last event seen."""

    connection: Connection
    job: str
    last_id: int | None = field(default=None)

    def read(self, *, read_timeout_s: float = 30.0) -> Iterator[Event]:
        """Yield events until the server ends the stream.

        Raises:
            FarmUnreachable: the connection broke, or nothing came for `read_timeout_s`.
        """
        headers = {"Accept": "text/event-stream"}
        if self.last_id is not None:
            headers["Last-Event-ID"] = str(self.last_id)
        path = f"/v1/jobs/{self.job}/events"
        with self.connection.stream(path, headers=headers, read_timeout_s=read_timeout_s) as response:
            for data in datas(response.iter_lines()):
                event = _event(data)
                if event is not None:
                    self.last_id = event.id
                    yield event


def datas(lines: Iterable[str]) -> Iterator[str]:
    """Yield the data of each event; comments (keep-alives) and other fields are passed over.

    Source: WHATWG HTML, 9.2.6 Interpreting an event stream.
    """
    held: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            held.append(line[5:].removeprefix(" "))
        elif not line and held:
            yield "\n".join(held)
            held = []


def _event(data: str) -> Event | None:
    """Read an event; one of a newer farm that this client does not know is passed over."""
    try:
        return Event.model_validate_json(data)
    except ValidationError:
        return None
