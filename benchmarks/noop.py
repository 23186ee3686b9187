"""A Celery worker with one task that does nothing: what any farm on Celery pays at least."""

from __future__ import annotations

import sys

from celery import Celery

from farm.queue import make_app


def make_noop_app(url: str) -> Celery:
    """Make the farm's own app, but with results, so that a caller can wait for the end."""
    app = make_app(url)
    app.conf.update(result_backend=url, task_ignore_result=False, task_default_queue="bench")
    app.task(do_nothing, name="bench.noop")
    return app


def do_nothing() -> None:
    """Return at once."""


def main(url: str) -> None:
    make_noop_app(url).Worker(pool="threads", concurrency=1, queues=["bench"], loglevel="ERROR").start()


if __name__ == "__main__":
    main(sys.argv[1])
