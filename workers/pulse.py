"""The pulse of a host: heartbeats that extend its leases and bring back what to stop."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from farm.domain.errors import Conflict, FarmError, Unauthorized
from farm.wire.hosts import Attestation, Heartbeat, HeartbeatAnswer, Leave
from workers.link import FarmLink

log = structlog.get_logger()
PULSE_DIED_EXIT = 70
"""EX_SOFTWARE of sysexits.h."""
TURNED_AWAY_EXIT = 77
"""EX_NOPERM of sysexits.h: the farm takes this worker no more, and starting it anew mends nothing."""
OnQuarantine = Callable[[str | None], None]
"""Called with the reason when quarantine begins, with None when it ends."""


class Pulse:
    """One thread that long-polls; a stop arrives as the attempt's event, quarantine at `on_quarantine`."""

    def __init__(
        self,
        link: FarmLink,
        attestation: Callable[[], Attestation],
        *,
        every_s: float,
        on_quarantine: OnQuarantine = lambda _: None,
        held_by_others: Callable[[], bool] = lambda: False,
    ) -> None:
        self._link, self._attestation, self._every_s = link, attestation, every_s
        self._name, self._instance = attestation().name, attestation().instance
        self._on_quarantine, self._held_by_others = on_quarantine, held_by_others
        self._quarantined: str | None = None
        self._notice: str | None = None
        self._running: dict[str, threading.Event] = {}
        self._waiting: dict[str, None] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._live, name="pulse", daemon=True)

    def start(self) -> None:
        """Attest, then beat until closed.

        Raises:
            Conflict: another worker has the name, and lives.
            Unauthorized: the token is not this host's, or was revoked.
        """
        self._join()
        self._thread.start()

    def _join(self) -> None:
        """Attest; a name that its last worker may only just have lost is waited for, as long as the farm says."""
        try:
            self._link.attest(self._attestation())
        except Conflict as taken:
            if "retry_after_s" not in taken.evidence:
                raise
            wait_s = float(taken.evidence["retry_after_s"]) + 0.2
            log.warning(taken.message, action="join", host=self._name, wait_s=wait_s)
            self._ending.wait(wait_s)
            self._link.attest(self._attestation())

    def close(self) -> None:
        """Stop beating and give the name up, where the farm can be told."""
        self._ending.set()
        if self._instance is not None:
            with suppress(FarmError):
                self._link.leave(Leave(name=self._name, instance=self._instance))

    @contextmanager
    def holding(self, attempt: str) -> Iterator[threading.Event]:
        """Keep an attempt's lease while the block runs; the event says that it must stop."""
        stop = threading.Event()
        with self._lock:
            self._running[attempt] = stop
        try:
            yield stop
        finally:
            with self._lock:
                del self._running[attempt]

    @contextmanager
    def waiting(self, step: str) -> Iterator[None]:
        """Say that a step's message is here and waits for the host's lock."""
        with self._lock:
            self._waiting[step] = None
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(step, None)

    def _live(self) -> None:
        """Beat until closed. A host without a pulse loses every lease: then the process ends, to be started anew."""
        try:
            self._beat()
        finally:
            if not self._ending.is_set():
                traceback.print_exc()
                log.critical("The pulse died; the worker ends, so that it is started anew.", action="pulse-died")
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(PULSE_DIED_EXIT)

    def _beat(self) -> None:
        while not self._ending.is_set():
            try:
                self._say()
            except (Unauthorized, Conflict) as error:
                self._turned_away(error)
            except FarmError as error:
                log.warning("A heartbeat did not arrive.", action="heartbeat", code=error.code, reason=error.message)
                self._ending.wait(min(1.0, self._every_s))

    def _say(self) -> None:
        with self._lock:
            running, waiting = list(self._running), list(self._waiting)
        said = Heartbeat(
            name=self._name,
            instance=self._instance,
            running=running,
            waiting=waiting,
            lock_held_elsewhere=bool(waiting) and self._held_by_others(),
            wait_s=self._every_s,
            clock_s=time.time(),
        )
        answer = self._link.heartbeat(said)
        if answer.unknown_host and not self._ending.is_set():
            self._link.attest(self._attestation())
        self._tell(answer)
        with self._lock:
            stops = [self._running[attempt] for attempt in answer.stop if attempt in self._running]
        for stop in stops:
            stop.set()
        if answer.stop:
            self._ending.wait(0.2)

    def _tell(self, answer: HeartbeatAnswer) -> None:
        """Put what is new about this host into its log, and let quarantine begin or end."""
        if answer.notice != self._notice and answer.notice is not None:
            log.warning(answer.notice, action="notice", host=self._name)
        self._notice = answer.notice
        if answer.quarantined != self._quarantined and not answer.unknown_host:
            self._quarantined = answer.quarantined
            self._on_quarantine(answer.quarantined)

    def _turned_away(self, error: FarmError) -> None:
        """End the process at once: what it runs has gone elsewhere, and its children end with it."""
        if self._ending.is_set():
            return
        log.critical(error.message, action="turned-away", host=self._name, remedy=error.remedy)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(TURNED_AWAY_EXIT)
