"""The host's lock across threads and processes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from farm.domain.errors import ConfigurationError, JobCancelled
from workers.host.lock import HostLock, default_folder

HOLDER = """
import sys, pathlib
from workers.host.lock import HostLock
lock = HostLock(pathlib.Path(sys.argv[1]))
with getattr(lock, sys.argv[2])("other"):
    print("held", flush=True)
    sys.stdin.read()
"""
TIMEOUT_S = 20


@pytest.fixture
def lock(tmp_path: Path) -> HostLock:
    return HostLock(tmp_path / "lock")


@contextmanager
def other_process(lock: HostLock, mode: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the lock until its input closes."""
    command = [sys.executable, "-c", HOLDER, str(lock.folder), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


class Taker(threading.Thread):
    """Take the lock in a thread and hold it until told to leave."""

    def __init__(self, lock: HostLock, mode: str, label: str = "") -> None:
        super().__init__(daemon=True)
        self.lock, self.mode, self.label = lock, mode, label
        self.held, self.leave, self.cancel, self.ended = (threading.Event() for _ in range(4))
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with getattr(self.lock, self.mode)(self.label, self.cancel):
                self.held.set()
                self.leave.wait(TIMEOUT_S)
        except JobCancelled as exc:
            self.error = exc
        finally:
            self.ended.set()

    def is_waiting(self) -> bool:
        return any(waiter.label == self.label for waiter in self.lock.waiting())


def until_waiting(*takers: Taker) -> None:
    """Watch the list of waiters until all stand in it."""
    tick, left = threading.Event(), TIMEOUT_S * 100
    while not all(taker.is_waiting() for taker in takers):
        tick.wait(0.01)
        left -= 1
        assert left, "never waited"


def test_builds_share(lock: HostLock) -> None:
    builds = [Taker(lock, "shared") for _ in range(3)]
    assert all(build.held.wait(TIMEOUT_S) for build in builds)
    for build in builds:
        build.leave.set()


def test_measurement_waits_for_builds_and_then_keeps_them_out(lock: HostLock) -> None:
    with lock.shared():
        measurement = Taker(lock, "exclusive", "measure")
        until_waiting(measurement)
        assert not measurement.held.is_set()
    assert measurement.held.wait(TIMEOUT_S)
    build = Taker(lock, "shared", "build")
    until_waiting(build)
    assert not build.held.is_set()
    measurement.leave.set()
    assert build.held.wait(TIMEOUT_S)
    build.leave.set()


def test_build_that_comes_later_does_not_overtake_a_waiting_measurement(lock: HostLock) -> None:
    first = Taker(lock, "shared", "first")
    assert first.held.wait(TIMEOUT_S)
    measurement = Taker(lock, "exclusive", "measure")
    until_waiting(measurement)
    late = Taker(lock, "shared", "late")
    until_waiting(late)
    first.leave.set()
    assert measurement.held.wait(TIMEOUT_S)
    assert not late.held.is_set()
    measurement.leave.set()
    assert late.held.wait(TIMEOUT_S)
    late.leave.set()


def test_measurement_gets_its_turn_under_endless_builds(lock: HostLock) -> None:
    enough = threading.Event()

    def build() -> None:
        while not enough.is_set():
            with lock.shared():
                enough.wait(0.005)

    builders = [threading.Thread(target=build, daemon=True) for _ in range(4)]
    for builder in builders:
        builder.start()
    measurement = Taker(lock, "exclusive")
    assert measurement.held.wait(TIMEOUT_S)
    measurement.leave.set()
    enough.set()
    for builder in builders:
        builder.join(TIMEOUT_S)


def test_one_measurement_at_a_time(lock: HostLock) -> None:
    inside, most = [], []

    def measure() -> None:
        with lock.exclusive():
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=measure) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert most == [1] * 8


def test_other_processes_count(lock: HostLock) -> None:
    with other_process(lock, "exclusive") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        build = Taker(lock, "shared", "build")
        until_waiting(build)
        assert not build.held.is_set()
        assert process.stdin is not None
        process.stdin.close()
        assert build.held.wait(TIMEOUT_S)
        build.leave.set()


def test_killed_process_releases(lock: HostLock) -> None:
    with other_process(lock, "exclusive") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        measurement = Taker(lock, "exclusive", "measure")
        until_waiting(measurement)
        os.kill(process.pid, signal.SIGKILL)
        assert measurement.held.wait(TIMEOUT_S)
        measurement.leave.set()


def test_waiters_are_listed_with_what_they_are(lock: HostLock) -> None:
    with lock.exclusive():
        build = Taker(lock, "shared", "step-1")
        until_waiting(build)
        (waiter,) = lock.waiting()
        assert (waiter.mode, waiter.label, waiter.pid) == ("shared", "step-1", os.getpid())
    assert build.held.wait(TIMEOUT_S)
    assert lock.waiting() == ()
    build.leave.set()


def test_dead_waiter_is_not_listed(lock: HostLock) -> None:
    with lock.exclusive():
        with other_process(lock, "shared") as process:
            tick = threading.Event()
            while not lock.waiting():
                tick.wait(0.01)
            assert process.poll() is None
        process.wait(TIMEOUT_S)
        assert lock.waiting() == ()
    assert list((lock.folder / "waiting").iterdir()) == []


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_cancelled_waiter_leaves_and_blocks_nobody(lock: HostLock, mode: str) -> None:
    with lock.exclusive():
        waiter = Taker(lock, mode, "step-2")
        until_waiting(waiter)
        waiter.cancel.set()
        assert waiter.ended.wait(2)
        assert isinstance(waiter.error, JobCancelled)
        assert "step-2 was cancelled" in str(waiter.error)
        assert lock.waiting() == ()
    with lock.exclusive():
        pass


def test_error_inside_releases(lock: HostLock) -> None:
    with pytest.raises(KeyError), lock.exclusive():
        raise KeyError
    with lock.shared():
        pass


def test_child_that_is_execd_does_not_keep_the_lock(lock: HostLock) -> None:
    with lock.exclusive():
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with lock.exclusive():
            assert child.poll() is None
    finally:
        child.kill()
        child.communicate()


def test_folder_that_can_not_be_made_is_the_operators_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="lock folder"):
        HostLock(tmp_path / "file" / "lock")


def test_folder_is_the_same_for_everyone_on_this_host() -> None:
    assert default_folder() == default_folder()
    assert default_folder().name == "edge-model-farm"


def test_a_lock_that_another_process_holds_is_told_from_ones_own(lock: HostLock) -> None:
    with lock.exclusive("mine"):
        assert not lock.held_by_others()
    with other_process(lock, "shared") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with lock.shared("mine too"):
            assert lock.held_by_others()
    process.wait(TIMEOUT_S)
    assert not lock.held_by_others()
    assert list((lock.folder / "holding").iterdir()) == []
