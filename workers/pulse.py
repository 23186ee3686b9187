"""The pulse of a host: heartbeats that extend its leases and bring back what to stop."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from farm.domain.errors import FarmError
from farm.wire.hosts import Attestation, Heartbeat
from workers.link import FarmLink

log = structlog.get_logger()
PULSE_DIED_EXIT = 70
"""EX_SOFTWARE of sysexits.h."""


class Pulse:
    """One thread that long-polls; a stop arrives as the attempt's event."""

    def __init__(self, link: FarmLink, attestation: Callable[[], Attestation], *, every_s: float) -> None:
        self._link, self._attestation, self._every_s = link, attestation, every_s
        self._name = attestation().name
        self._running: dict[str, threading.Event] = {}
        self._waiting: dict[str, None] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._live, name="pulse", daemon=True)

    def start(self) -> None:
        """Attest, then beat until closed."""
        self._link.attest(self._attestation())
        self._thread.start()

    def close(self) -> None:
        self._ending.set()

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
            except FarmError as error:
                log.warning("A heartbeat did not arrive.", action="heartbeat", code=error.code, reason=error.message)
                self._ending.wait(min(1.0, self._every_s))

    def _say(self) -> None:
        with self._lock:
            running, waiting = list(self._running), list(self._waiting)
        said = Heartbeat(name=self._name, running=running, waiting=waiting, wait_s=self._every_s)
        answer = self._link.heartbeat(said)
        if answer.unknown_host:
            self._link.attest(self._attestation())
        with self._lock:
            stops = [self._running[attempt] for attempt in answer.stop if attempt in self._running]
        for stop in stops:
            stop.set()
        if answer.stop:
            self._ending.wait(0.2)
