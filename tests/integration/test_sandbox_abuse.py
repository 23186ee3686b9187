"""Children that misbehave: each ends as a typed ending, leaves no process, and the next run is fine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.sandbox import Level

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import Bench, Running, adopt_orphans, bench, nothing_left

MIB = 1 << 20


@pytest.fixture(scope="module", params=[Level.FULL, Level.PARTIAL])
def at(request: pytest.FixtureRequest) -> Iterator[Bench]:
    adopt_orphans()
    with bench(request.param) as made:
        made.sandbox.warm(made.environment)
        yield made


@pytest.fixture(autouse=True)
def leaves_no_process_and_the_next_run_is_fine(at: Bench) -> Iterator[None]:
    with nothing_left():
        yield
    assert at.run("exit_with_7")[0].exit_code == 7


@pytest.mark.parametrize("fresh", [False, True], ids=["fork", "fresh"])
def test_memory_taken_bit_by_bit_ends_at_the_limit(at: Bench, fresh: bool) -> None:
    ending, _ = at.run("hog_memory", memory_bytes=100 * MIB, fresh=fresh)

    assert ending.end == "memory", ending
    assert ending.peak_memory_bytes is not None
    assert 100 * MIB < ending.peak_memory_bytes < 250 * MIB


def test_memory_asked_for_at_once_is_refused_by_the_kernel(at: Bench) -> None:
    ending, work = at.run("hog_memory_at_once")

    assert (ending.end, ending.exit_code) == ("memory", 97), ending
    assert "MemoryError" in (work / "log.txt").read_text()


@pytest.mark.parametrize("fresh", [False, True], ids=["fork", "fresh"])
def test_peak_memory_is_what_the_child_itself_took(at: Bench, fresh: bool) -> None:
    ending, _ = at.run("hold_some_memory", fresh=fresh)

    assert ending.peak_memory_bytes is not None
    assert 60 * MIB < ending.peak_memory_bytes < 110 * MIB


@pytest.mark.parametrize("entry", ["write_many_files", "write_empty_files", "write_deleted_file"])
def test_a_full_disk_ends_the_run(at: Bench, entry: str) -> None:
    if entry == "write_deleted_file" and at.sandbox.level is Level.PARTIAL and os.getuid() != 0:
        pytest.skip("an ordinary user without namespaces cannot see a child's deleted files")

    ending, _ = at.run(entry, disk_bytes=16 * MIB)

    assert (ending.end, "16777216 allowed" in (ending.detail or "")) == ("disk", True), ending


@pytest.mark.parametrize("entry", ["write_one_file", "flood_log"])
def test_one_file_stops_at_its_limit(at: Bench, entry: str) -> None:
    ending, work = at.run(entry, file_bytes=4 * MIB)

    assert ending.end == "disk", ending
    assert max(file.stat().st_size for file in work.iterdir()) <= 4 * MIB


def test_a_folder_that_cannot_be_measured_ends_the_run(at: Bench) -> None:
    ending, work = at.run("write_hidden_folder", wall_s=0.5)

    hidden_from_supervisor = at.sandbox.level is Level.PARTIAL and os.getuid() != 0
    assert ending.end == ("disk" if hidden_from_supervisor else "wall"), ending
    (work / "hidden").chmod(0o700)


def test_a_child_that_ignores_every_signal_ends_at_its_time(at: Bench) -> None:
    ending, _ = at.run("spin", wall_s=0.5)

    assert ending.end == "wall"
    assert 0.5 <= ending.run_time_s < 1.0


def test_processor_time_is_limited(at: Bench) -> None:
    ending, _ = at.run("spin", cpu_s=1)

    assert (ending.end, ending.signal) == ("signal", "SIGXCPU")
    assert "1 s of processor time" in (ending.detail or "")


def test_a_fork_bomb_is_refused_its_first_fork(at: Bench) -> None:
    ending, work = at.run("bomb")

    assert (ending.end, ending.exit_code) == ("exit", 1), ending
    assert (work / "refused.txt").read_text() == "1"


def test_a_fork_bomb_that_may_fork_is_held_and_killed(at: Bench) -> None:
    ending, work = at.run("bomb", spawns=True, wall_s=1, threads=32)

    assert ending.end in ("wall", "memory"), ending
    assert (work / "refused.txt").read_text() == "11"


def test_threads_stop_at_their_limit(at: Bench) -> None:
    ending, work = at.run("start_5000_threads", threads=64)

    assert ending.exit_code == 1
    assert 40 <= int((work / "threads.txt").read_text()) <= 64


@pytest.mark.parametrize("entry", ["crash", "abort"])
def test_a_crash_is_a_signal(at: Bench, entry: str) -> None:
    ending, _ = at.run(entry)

    assert (ending.end, ending.signal) == ("signal", {"crash": "SIGSEGV", "abort": "SIGABRT"}[entry])


def test_shared_memory_is_private_and_small(at: Bench) -> None:
    ending, work = at.run("fill_shared_memory", file_bytes=1024 * MIB)

    words = "No space left" if at.sandbox.level is Level.FULL else "Permission denied"
    assert ending.exit_code == 1
    assert words in (work / "log.txt").read_text()
    assert not Path("/dev/shm/fill").exists()


def test_programs_left_behind_end_with_the_run(at: Bench) -> None:
    running = Running(at, "leave_family_and_exit", spawns=True)

    assert running.join().exit_code == 0
