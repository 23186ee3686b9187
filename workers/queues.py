"""The queues a worker takes messages from: all it serves, or only its own while it is quarantined."""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery import Celery

from farm.domain.catalogue import OWN_QUEUE
from farm.wire.hosts import Attestation

log = structlog.get_logger()


class Queues:
    """Celery's consumer of this host; quarantine may begin and end while it runs, told from another thread."""

    def __init__(self, said: Attestation) -> None:
        self._said = said
        self._worker: Any = None
        self._shut = False
        self._lock = threading.Lock()

    @property
    def _shared(self) -> list[str]:
        return [queue for queue in self._said.serves if not queue.startswith(OWN_QUEUE)]

    def consume(self, app: Celery, *, concurrency: int) -> None:
        """Take messages until the process is told to stop."""
        with self._lock:
            self._worker = app.Worker(
                pool="threads",
                concurrency=concurrency,
                queues=self._said.serves,
                hostname=f"celery@{self._said.name}",
                loglevel="INFO",
                without_mingle=True,
                without_gossip=True,
                ready_callback=self._ready,
            )
        self._worker.start()

    def _ready(self, consumer: Any) -> None:
        self._worker.on_consumer_ready(consumer)
        if self._shut:
            self._turn(consumer)

    def quarantine(self, reason: str | None) -> None:
        """Leave the queues that others serve too, or come back to them when there is no reason any more."""
        with self._lock:
            self._shut = reason is not None
            consumer = getattr(self._worker, "consumer", None)
        if reason is None:
            log.warning("Quarantine has ended; this host takes work again.", action="release", host=self._said.name)
        else:
            log.warning(
                f"This host is quarantined: {reason}. It takes no work but self-tests.",
                action="quarantine",
                host=self._said.name,
            )
        if consumer is not None:
            consumer.call_soon(self._turn, consumer)

    def _turn(self, consumer: Any) -> None:
        for queue in self._shared:
            if self._shut:
                consumer.cancel_task_queue(queue)
            else:
                consumer.add_task_queue(queue)
