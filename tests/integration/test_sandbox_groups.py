"""Control groups: joined by the whole tree, killed at once, removed after the run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.sandbox import Level, cgroup, processes

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import Bench, Running, adopt_orphans, bench, survivors


@pytest.fixture
def parent() -> Iterator[Path]:
    mount = cgroup.mount_point(Path("/proc/self/mountinfo").read_text())
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("no cgroup2 mount that may be written")
    folder = mount / f"farm-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.rmdir()


@pytest.fixture(params=[Level.FULL, Level.PARTIAL])
def at(request: pytest.FixtureRequest, parent: Path) -> Iterator[Bench]:
    adopt_orphans()
    with bench(request.param, groups=parent) as made:
        yield made


def members(parent: Path) -> list[int]:
    return [
        int(pid) for group in parent.iterdir() if group.is_dir() for pid in (group / "cgroup.procs").read_text().split()
    ]


def test_a_run_lives_in_a_group_that_is_removed(at: Bench, parent: Path) -> None:
    running = Running(at, "announce_and_leave_family", spawns=True)
    inside = members(parent)
    (supervisor, *family) = processes.descendants(at.sandbox.zygote_pids()[0])

    running.cancel.set()
    ending = running.join()

    assert (set(inside) >= set(family[:1]), supervisor in inside, len(inside) >= 4) == (True, False, True)
    assert (ending.end, survivors(inside)) == ("cancelled", [])
    assert [group for group in parent.iterdir() if group.is_dir()] == []


def test_the_group_goes_when_the_supervisor_was_killed(at: Bench, parent: Path) -> None:
    running = Running(at, "announce_and_leave_family", spawns=True)
    inside = members(parent)
    (supervisor, *_) = processes.descendants(at.sandbox.zygote_pids()[0])

    os.kill(supervisor, signal.SIGKILL)

    assert running.join().end == "setup"
    assert survivors(inside) == []
