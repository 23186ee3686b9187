"""Notifications of the ledger, handed to the requests that wait for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import psycopg
import structlog

from farm.ledger.listen import plain_url
from farm.ledger.session import CHANNEL

log = structlog.get_logger()
_RETRY_S = 0.5


class Notices:
    """One connection that listens, any number of requests that wait for a topic.

    A notification may be missed while the connection mends: whoever waits must look again after its timeout.
    """

    def __init__(self, url: str) -> None:
        self._url = plain_url(url)
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.closing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Notices]:
        task = asyncio.create_task(self._listen())
        try:
            yield self
        finally:
            self.close()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def close(self) -> None:
        """Wake everybody who waits, so that the server can stop."""
        self.closing.set()
        for topic in list(self._waiting):
            self._tell(topic)

    @contextlib.contextmanager
    def watch(self, topic: str) -> Iterator[asyncio.Event]:
        """Give an event that is set at each notification of `topic`, from now on."""
        event = asyncio.Event()
        self._waiting[topic].add(event)
        try:
            yield event
        finally:
            self._waiting[topic].discard(event)
            if not self._waiting[topic]:
                del self._waiting[topic]

    async def _listen(self) -> None:
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
                async with connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    async for notice in connection.notifies():
                        self._tell(notice.payload)
            except psycopg.OperationalError as exc:
                log.warning("Listening to the ledger broke off; trying again.", action="listen", reason=str(exc))
                await asyncio.sleep(_RETRY_S)

    def _tell(self, topic: str) -> None:
        for event in self._waiting.get(topic, ()):
            event.set()


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until the event is set, and clear it; False when the time was over first."""
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return False
    event.clear()
    return True
