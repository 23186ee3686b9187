"""Who ends with whom: cancelling, killed zygotes, killed workers, closing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from workers.sandbox import Ending, Level, processes

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import FIFO, Bench, Running, adopt_orphans, bench, nothing_left, survivors

MODES = {
    "fork": {"entry": "announce_and_spin"},
    "fresh": {"entry": "announce_and_spin", "fresh": True},
    "spawns": {"entry": "announce_and_leave_family", "spawns": True},
}
HEADS = 4096
"""More than a hydra grows while a test looks: dead ones count until they are reaped."""


@pytest.fixture(scope="module", params=[Level.FULL, Level.PARTIAL])
def at(request: pytest.FixtureRequest) -> Iterator[Bench]:
    adopt_orphans()
    with bench(request.param) as made:
        yield made


@pytest.fixture(params=list(MODES))
def running(request: pytest.FixtureRequest, at: Bench) -> Running:
    at.sandbox.warm(at.environment)
    return Running(at, **MODES[request.param])


def test_cancelling_ends_the_whole_tree_well_under_2_s(at: Bench, running: Running) -> None:
    family = [pid for zygote in at.sandbox.zygote_pids() for pid in processes.descendants(zygote)]
    asked = time.monotonic()

    running.cancel.set()
    ending = running.join()

    assert (ending.end, survivors(family)) == ("cancelled", [])
    assert time.monotonic() - asked < 1
    assert len(family) >= 3


def test_the_supervisor_keeps_off_the_childs_cores(at: Bench) -> None:
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("needs two processors")
    running = Running(at, "announce_and_spin", fresh=True, cores=(max(cores),))
    (supervisor, first, child) = processes.descendants(at.sandbox.zygote_pids()[0])

    placed = [os.sched_getaffinity(pid) for pid in (supervisor, first, child)]

    running.cancel.set()
    assert running.join().end == "cancelled"
    assert placed == [cores - {max(cores)}, cores - {max(cores)}, {max(cores)}]


def test_a_killed_zygote_ends_its_runs_and_is_replaced(at: Bench, running: Running) -> None:
    (zygote,) = at.sandbox.zygote_pids()
    family = processes.descendants(zygote)

    os.kill(zygote, signal.SIGKILL)
    ending = running.join()

    assert survivors(family) == []
    assert (ending.end, "zygote" in (ending.detail or "")) == ("setup", True)
    assert at.run("exit_with_7")[0].exit_code == 7
    assert at.sandbox.zygote_pids() != (zygote,)


def test_a_killed_supervisor_leaves_nothing_either(at: Bench, running: Running) -> None:
    (zygote,) = at.sandbox.zygote_pids()
    (supervisor, *family) = processes.descendants(zygote)

    os.kill(supervisor, signal.SIGKILL)
    ending = running.join()

    assert survivors(family) == []
    assert (ending.end, "run it again" in (ending.detail or "")) == ("setup", True)
    assert at.run("exit_with_7")[0].exit_code == 7


def test_a_stopped_supervisor_does_not_hold_up_cancelling(at: Bench) -> None:
    running = Running(at, "announce_and_spin")
    (zygote,) = at.sandbox.zygote_pids()
    (supervisor, *family) = processes.descendants(zygote)
    asked = time.monotonic()

    os.kill(supervisor, signal.SIGSTOP)
    running.cancel.set()
    ending = running.join()

    assert (ending.end, survivors(family)) == ("cancelled", [])
    assert time.monotonic() - asked < 2


class Importing:
    """A run that waits for a zygote whose import never ends."""

    def __init__(self, at: Bench) -> None:
        self.cancel = threading.Event()
        self.ending: Ending | None = None
        fifo = at.folder / "run" / "importing.fifo"
        os.mkfifo(fifo)
        self._thread = threading.Thread(target=self._run, args=(at,))
        self._thread.start()
        assert fifo.read_text() == "importing"

    def _run(self, at: Bench) -> None:
        call = replace(at.call("exit_with_7", at.work()), preload=("tests.sandbox_slow",))
        self.ending = at.sandbox.run(call, cancel=self.cancel)

    def join(self) -> Ending:
        self._thread.join(10)
        assert self.ending is not None, "the run did not end"
        return self.ending


def test_cancelling_does_not_wait_for_an_import() -> None:
    adopt_orphans()
    with bench(Level.FULL) as at:
        importing = Importing(at)
        asked = time.monotonic()

        importing.cancel.set()

        assert importing.join().end == "cancelled"
        assert time.monotonic() - asked < 1


def test_closing_ends_an_import() -> None:
    adopt_orphans()
    with bench(Level.FULL) as at:
        importing = Importing(at)
        asked = time.monotonic()

        at.sandbox.close()

        assert importing.join().end == "setup"
        assert time.monotonic() - asked < 2


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sandbox_fixtures import bench
from workers.sandbox import Level
with bench(Level({level!r})) as at:
    at.sandbox.run(at.call({entry!r}, Path({work!r}), fresh={fresh}, spawns={spawns}))
"""


@pytest.mark.parametrize("mode", list(MODES))
def test_a_killed_worker_takes_everything_along(at: Bench, mode: str) -> None:
    work = at.work()
    os.mkfifo(work / FIFO)
    settings = {"fresh": mode == "fresh", "spawns": mode == "spawns", "entry": MODES[mode]["entry"]}
    tests = str(Path(__file__).parents[1])
    program = WORKER.format(tests=tests, level=at.sandbox.level.value, work=str(work), **settings)

    with nothing_left():
        variables = os.environ | {"TMPDIR": str(at.folder)}
        worker = subprocess.Popen([sys.executable, "-c", program], cwd=Path(tests).parent, env=variables)
        assert (work / FIFO).read_text() == "started"
        assert len(processes.descendants(worker.pid)) >= 4
        worker.kill()
        worker.wait()


def test_closing_ends_zygotes_and_runs() -> None:
    adopt_orphans()
    with nothing_left(), bench(Level.FULL) as at:
        running = Running(at, "announce_and_spin")
        at.sandbox.close()

        assert running.join().end == "setup"
        assert at.sandbox.zygote_pids() == ()
        assert at.run("exit_with_7")[0].end == "setup"


def test_runs_of_several_threads_share_the_slots(at: Bench) -> None:
    endings = []

    def run() -> None:
        endings.append(at.run("exit_with_7")[0].exit_code)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert endings == [7] * 8


def test_a_run_that_waits_for_a_slot_can_be_cancelled(at: Bench) -> None:
    occupying = [Running(at, "announce_and_spin") for _ in range(2)]
    cancel = threading.Event()
    cancel.set()

    ending = at.sandbox.run(at.call("exit_with_7", at.work()), cancel=cancel)

    assert (ending.end, ending.start_ms) == ("cancelled", None)
    for run in occupying:
        run.cancel.set()
        run.join()


def test_a_warm_run_starts_fast(at: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    at.sandbox.warm(at.environment)
    starts = sorted(at.run("exit_with_7")[0].start_ms or 0.0 for _ in range(9))

    with capsys.disabled():
        print(f"\nwarm start at level {at.sandbox.level}: median {starts[4]:.1f} ms, longest {starts[-1]:.1f} ms")
    assert 0 < starts[4] < 1000


def test_a_tree_that_outruns_every_look_ends_with_its_run(at: Bench) -> None:
    running = Running(at, "sleep_beside_a_hydra", spawns=True, threads=HEADS)

    running.cancel.set()

    assert running.join().end == "cancelled"
    assert not grows(running)


def test_a_tree_that_outruns_every_look_ends_when_its_supervisor_dies(at: Bench) -> None:
    if os.geteuid() != 0 and not at.sandbox.level.has_namespaces:
        pytest.skip("only root has a user for every slot, whom one call ends")
    at.sandbox.warm(at.environment)
    running = Running(at, "sleep_beside_a_hydra", spawns=True, threads=HEADS)
    (supervisor, *_) = processes.descendants(at.sandbox.zygote_pids()[0])

    os.kill(supervisor, signal.SIGKILL)

    ending = running.join()
    assert (ending.end, "was killed; run it again" in (ending.detail or "")) == ("setup", True)
    assert not grows(running)


def grows(running: Running) -> bool:
    """Tell whether a hydra's heads still write into its folder."""
    heads = running.work / "heads.txt"
    before = heads.read_text()
    time.sleep(0.1)
    return heads.read_text() != before
