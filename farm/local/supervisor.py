"""Keep parts alive: restart what ends, at once the first time and more slowly when it keeps ending.

Parts run in sessions of their own and outlive a killed supervisor; the next one adopts them.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from farm.domain.errors import FarmError
from farm.local import running
from farm.local.blueprint import Blueprint
from farm.local.info import StackInfo
from farm.local.part import Part
from farm.local.process import reap
from farm.local.running import Progress, Record

LONGEST_DELAY_S = 30.0
SETTLED_AFTER_S = 60.0
"""A part that lived this long starts its count of deaths anew."""

SUPERVISOR = "supervisor"
SUPERVISOR_LEVEL = 99


def restart_delay_s(deaths: int) -> float:
    """Decide how long to wait before a restart: 0, 1, 2, 4 … seconds, at most LONGEST_DELAY_S."""
    return 0.0 if deaths <= 1 else min(LONGEST_DELAY_S, 2.0 ** (deaths - 2))


@dataclass(slots=True)
class Watched:
    """A part under supervision; `pidfd` is set while it lives, `due` while it waits for its restart."""

    part: Part
    pidfd: int | None = None
    pid: int = 0
    started: float = 0.0
    deaths: int = 0
    due: float | None = None


class Supervisor:
    """Run a stack's parts in this process until a signal (SIGINT, SIGTERM) ends it; SIGHUP looks for released parts."""

    def __init__(self, blueprint: Blueprint, names: Sequence[str], on_progress: Progress) -> None:
        self._blueprint = blueprint
        self._folder = blueprint.folder
        self._names = names
        self._tell = on_progress
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, Watched] = {}

    def run(self, on_ready: Callable[[StackInfo], None]) -> None:
        """Start the parts, report, and watch them; whatever ends this, the parts are stopped in order.

        Raises:
            FarmError: a part did not come up, or another supervisor holds the folder.
        """
        self._blueprint.open()
        with running.locked(self._folder), self._signals() as wakeup:
            try:
                running.record_self(self._folder, SUPERVISOR, SUPERVISOR_LEVEL)
                running.start_all(self._folder, self._blueprint.define(self._names), self._tell)
                on_ready(self._blueprint.publish())
                self._watch(wakeup)
            except KeyboardInterrupt:
                self._tell("interrupted")
            finally:
                self._stopping = True
                running.stop_all(self._folder, self._tell)
                self._blueprint.withdraw()

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Turn signals into bytes on a socket, so that they wake the selector."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        previous_fd = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        previous = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(previous_fd)
            for number, handler in previous.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP or self._stopping:
            return
        self._stopping = True
        if not self._watched:  # still starting: nothing else would notice
            raise KeyboardInterrupt

    def _watch(self, wakeup: socket.socket) -> None:
        self._selector.register(wakeup, selectors.EVENT_READ)
        for part in self._blueprint.define(self._names):
            self._watched[part.name] = watched = Watched(part)
            self._observe(watched, running.read_record(self._folder, part.name))
        while not self._stopping:
            for key, _ in self._selector.select(self._next_due_in_s()):
                if isinstance(key.data, Watched):
                    self._ended(key.data)
                else:
                    wakeup.recv(4096)
                    self._release_held()
            self._restart_due()

    def _next_due_in_s(self) -> float | None:
        due = [watched.due for watched in self._watched.values() if watched.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _observe(self, watched: Watched, record: Record | None) -> None:
        try:
            if record is None or not record.identity.is_alive():
                raise ProcessLookupError
            watched.pidfd, watched.pid = os.pidfd_open(record.identity.pid), record.identity.pid
        except ProcessLookupError:
            self._schedule(watched)
            return
        watched.due, watched.started = None, time.monotonic()
        self._selector.register(watched.pidfd, selectors.EVENT_READ, watched)

    def _ended(self, watched: Watched) -> None:
        if watched.pidfd is not None:
            self._selector.unregister(watched.pidfd)
            os.close(watched.pidfd)
            watched.pidfd = None
        reap(watched.pid)
        if time.monotonic() - watched.started > SETTLED_AFTER_S:
            watched.deaths = 0
        self._schedule(watched)

    def _schedule(self, watched: Watched) -> None:
        if running.is_held(self._folder, watched.part.name):
            self._tell(f"{watched.part.name}: held back")
            return
        watched.deaths += 1
        delay_s = restart_delay_s(watched.deaths)
        watched.due = time.monotonic() + delay_s
        self._tell(f"{watched.part.name}: ended; restart in {delay_s:.0f} s, log {self._log(watched)}")

    def _log(self, watched: Watched) -> str:
        return str(self._folder.log(watched.part.name))

    def _release_held(self) -> None:
        for watched in self._watched.values():
            idle = watched.pidfd is None and watched.due is None
            if idle and not running.is_held(self._folder, watched.part.name):
                watched.deaths, watched.due = 0, time.monotonic()

    def _restart_due(self) -> None:
        for watched in self._watched.values():
            if watched.due is not None and watched.due <= time.monotonic() and not self._stopping:
                self._restart(watched)

    def _restart(self, watched: Watched) -> None:
        watched.due = None
        if running.is_held(self._folder, watched.part.name):
            return
        try:
            record = running.adopt_or_start(self._folder, watched.part, self._tell)
            self._observe(watched, record)
            self._blueprint.publish()
        except FarmError as error:
            self._tell(f"{watched.part.name}: cannot start: {error}")
            self._schedule(watched)
