"""Listen for notifications of the ledger, over one connection that mends itself."""

from __future__ import annotations

import time
from collections.abc import Collection
from types import TracebackType

import psycopg
from sqlalchemy.engine import make_url

from farm.ledger.session import CHANNEL


def plain_url(url: str) -> str:
    """Turn SQLAlchemy's URL into one that libpq reads."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class Listener:
    """Wait for topics. While the ledger is away, waiting lasts the whole timeout."""

    def __init__(self, url: str, topics: Collection[str]) -> None:
        self._url = plain_url(url)
        self._topics = frozenset(topics)
        self._connection: psycopg.Connection | None = None

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def wait(self, timeout_s: float) -> bool:
        """Return once a topic was notified, True, or the time is over, False."""
        until = time.monotonic() + timeout_s
        try:
            connection = self._connect()
            while (left_s := until - time.monotonic()) > 0:
                for notice in connection.notifies(timeout=left_s, stop_after=1):
                    if notice.payload in self._topics:
                        return True
        except psycopg.OperationalError:
            self._connection = None
            time.sleep(max(0.0, until - time.monotonic()))
        return False

    def _connect(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url, autocommit=True)
            self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection
