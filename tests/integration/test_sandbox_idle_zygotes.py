"""Idle zygotes end where memory runs short; what is running, or was used last, stays."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sandbox_fixtures import CODE, FIFO, LIMITS, code_root, public_folder
from workers.sandbox import Level
from workers.sandbox.pool import Pool
from workers.sandbox.values import Call

HERE = Path(sys.prefix)


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool whose memory is short while two zygotes live."""
    made = Pool(
        folder=public_folder(), code_root=code_root(), slots=1, code=CODE, is_short=lambda: len(made.zygote_pids()) > 1
    )
    yield made
    made.close()


def test_the_least_recently_used_zygote_goes(pool: Pool) -> None:
    first, second = pool.warm(HERE, ("json",)), pool.warm(HERE, ("csv",))

    third = pool.warm(HERE, ("wave",))

    assert set(pool.zygote_pids()) == {second.pid, third.pid}
    assert not first.alive


def test_a_zygote_whose_run_is_in_flight_stays(pool: Pool) -> None:
    work = Path(tempfile.mkdtemp(dir=public_folder()))
    os.mkfifo(work / FIFO)
    spinning = Call(HERE, "tests.sandbox_entries:announce_and_spin", work, (), LIMITS)
    cancel = threading.Event()
    with ThreadPoolExecutor() as threads:
        run = threads.submit(pool.run, spinning, Level.FULL, cancel)
        assert (work / FIFO).read_text() == "started"
        (used,) = pool.zygote_pids()
        for preload in ("json", "csv", "wave"):
            pool.warm(HERE, (preload,))
        assert used in pool.zygote_pids()
        cancel.set()

    assert run.result().end == "cancelled"


def test_a_zygote_that_went_starts_again_when_it_is_needed(pool: Pool) -> None:
    for preload in ("json", "csv", "wave"):
        pool.warm(HERE, (preload,))

    assert pool.warm(HERE, ("json",)).alive
