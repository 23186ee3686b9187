"""The Celery app and its routing: the only place that names a queue's messages.

The queue is a hint; the ledger and its leases are the truth. Hence early acknowledgement (a broker that dies during a
task does not end the worker), no prefetch (messages don't sit behind a busy worker), no result backend, JSON only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from farm.domain.errors import FarmUnreachable
from farm.domain.stage import Kind
from farm.settings import settings

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

STEP_TASK = "farm.step"
MEASURE_TASK = "farm.measure"
"""A measurement has a task of its own, so that a worker knows before its claim that it needs the host for itself."""
FIRST, USUAL = 0, 3
"""Priorities of messages, steps of kombu's: an inspection is short and somebody waits for it, so it passes the rest."""
_EPOCH = "farm:epoch"


def make_app(broker_url: str) -> Celery:
    from celery import Celery

    app = Celery("farm", broker=broker_url)
    app.conf.update(
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        worker_enable_remote_control=False,
        worker_send_task_events=True,
        task_send_sent_event=True,
        task_track_started=False,
        task_default_queue="unrouted",
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5, "retry_on_timeout": True},
        worker_hijack_root_logger=False,
        enable_utc=True,
    )
    return app


def publish(app: Celery, *, step_id: str, attempt: int, queue: str, kind: str, shown_as: str) -> None:
    """Send a step's message; `shown_as` is what Flower shows in place of the task's name and arguments."""
    app.send_task(
        MEASURE_TASK if kind == Kind.MEASURE else STEP_TASK,
        args=(step_id, attempt),
        queue=queue,
        priority=FIRST if kind == Kind.INSPECT else USUAL,
        shadow=shown_as,
        argsrepr=f"({step_id}, attempt {attempt})",
        retry=False,
        ignore_result=True,
    )


class Broker:
    """What control asks Redis: its epoch and the lengths of queues."""

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._redis: Redis = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)

    def has_lost_all(self) -> bool:
        """Tell whether Redis lost what it held (flushed, or restarted empty) since it was last marked as whole."""
        with _answering():
            return not self._redis.exists(_EPOCH)

    def mark_whole(self) -> None:
        with _answering():
            self._redis.set(_EPOCH, "1")

    def length(self, queue: str) -> int:
        """Count a queue's messages; kombu keeps those of each priority in a list of their own."""
        from kombu.transport.redis import Channel

        lists = [queue, f"{queue}{Channel.sep}{USUAL}"]
        with _answering():
            return sum(int(self._redis.llen(one)) for one in lists)

    def ping(self) -> None:
        with _answering():
            self._redis.ping()


@contextmanager
def _answering() -> Iterator[None]:
    """Turn what Redis' client says into the farm's error.

    Raises:
        FarmUnreachable: Redis does not answer, or not as asked.
    """
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise FarmUnreachable(f"The queue does not answer: {error}") from error


def __getattr__(name: str) -> Celery:
    """Make `celery -A farm.queue` work: the app on the configured broker, built on first use."""
    if name in ("app", "celery"):
        return make_app(settings().redis_url.get_secret_value())
    raise AttributeError(name)
