"""How the store is reached: one pool of connections, and how long to keep trying."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import tenacity

from farm.domain.errors import FarmUnreachable, TransferFailed

T = TypeVar("T")
Progress = Callable[[int], None]
"""Told how many bytes of the file are through so far; fewer than before when a part starts again."""

_CONNECT_TIMEOUT_S = 5.0
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_URLS_TRIED = 3
"""How many signed URLs in a row may be refused before the store's word is final."""


@dataclass(frozen=True, slots=True)
class Link:
    """Shared by all transfers of a process; safe between threads.

    Attributes:
        budget_s: how long to retry while not a byte moves.
        connections: parts, or files, in flight at once.
    """

    client: httpx.Client
    budget_s: float = 60.0
    connections: int = 4


@contextmanager
def open_link(*, budget_s: float = 60.0, connections: int = 4) -> Iterator[Link]:
    """Open a pool; a silent connection is given up in time for at least two more tries within the budget."""
    timeout = httpx.Timeout(budget_s / 3, connect=min(budget_s / 3, _CONNECT_TIMEOUT_S), pool=None)
    with httpx.Client(timeout=timeout, limits=httpx.Limits(max_connections=None)) as client:
        yield Link(client, budget_s, connections)


def using(link: Link | None) -> AbstractContextManager[Link]:
    """Use the caller's link, or one of its own for a single transfer."""
    return open_link() if link is None else nullcontext(link)


@dataclass(slots=True)
class Patience:
    """Retry while bytes move, and for a budget of seconds after the last one did."""

    budget_s: float
    stop: threading.Event = field(default_factory=threading.Event)
    moved_at_s: float = field(default_factory=time.monotonic)
    expired_urls: int = 0

    def moved(self) -> None:
        self.moved_at_s = time.monotonic()
        self.expired_urls = 0

    def check(self) -> None:
        """End a transfer whose siblings have failed.

        Raises:
            TransferFailed: another part gave up.
        """
        if self.stop.is_set():
            raise TransferFailed("The transfer was stopped, since another part of it failed.")

    def retry(self, action: Callable[[], T]) -> T:
        """Repeat `action` while storage or API are out of reach, waiting longer each time, with jitter.

        Raises:
            FarmError: what `action` raised last.
        """
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((TransferFailed, FarmUnreachable)),
            wait=tenacity.wait_exponential_jitter(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S, jitter=_FIRST_WAIT_S),
            stop=self._is_over,
            sleep=tenacity.sleep_using_event(self.stop),
            reraise=True,
        )(action)

    def _is_over(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TransferFailed) and error.evidence.get("expired"):
            self.expired_urls += 1
        exhausted = self.expired_urls >= _URLS_TRIED or time.monotonic() - self.moved_at_s > self.budget_s
        return exhausted or self.stop.is_set()
