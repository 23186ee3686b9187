"""What a child can reach at each level: the probes, its environment, its files."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm.domain.errors import EnvironmentMissing, IsolationTooWeak
from workers.sandbox import Level, Sandbox
from workers.sandbox.pool import Pool
from workers.sandbox.selftest import POLICIES, attempt, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import CODE, Bench, adopt_orphans, bench, code_root, environment_of, nothing_left, public_folder

SECRET = "hunter2-of-the-worker"


@pytest.fixture(scope="module", params=[Level.FULL, Level.PARTIAL])
def at(request: pytest.FixtureRequest) -> Iterator[Bench]:
    adopt_orphans()
    os.environ["FARM_SECRET"] = SECRET
    with bench(request.param) as made:
        yield made
    del os.environ["FARM_SECRET"]


@pytest.mark.parametrize("level", [Level.FULL, Level.PARTIAL])
def test_every_probe_holds_under_every_policy(level: Level) -> None:
    folder = public_folder() / f"probes-{level}-{os.getpid()}"
    folder.mkdir()
    pool = Pool(folder=folder, code_root=code_root(), slots=1)
    try:
        trial = attempt(pool, level, folder=folder, environment=environment_of(level))
    finally:
        pool.close()

    assert trial.reasons == ()
    assert {row.policy for row in trial.rows} == set(POLICIES)


def test_probes_succeed_without_isolation() -> None:
    """The probes can fail: with limits alone most of them come through."""
    folder = public_folder() / f"probes-none-{os.getpid()}"
    folder.mkdir()
    pool = Pool(folder=folder, code_root=code_root(), slots=1)
    try:
        trial = attempt(pool, Level.NONE, folder=folder, environment=environment_of(Level.NONE))
    finally:
        pool.close()

    came_through = {row.probe for row in trial.rows if not row.holds and row.policy == "fork"}
    assert came_through >= {
        *("connect_tcp", "send_udp", "open_netlink", "reach_abstract_socket", "reach_path_socket"),
        *("read_passwd", "read_secret", "read_secret_by_symlink", "list_home", "list_processes", "read_process"),
        *("reach_out_of_socket_pair", "signal_by_owner", "share_system_v_memory", "run_program", "fork_process"),
    }


def test_partial_says_what_it_lacks(at: Bench) -> None:
    if at.sandbox.level is Level.FULL:
        assert at.sandbox.missing == ()
    else:
        assert "own view of processes" in at.sandbox.missing


def test_a_level_that_is_not_accepted_is_refused() -> None:
    with (
        pytest.raises(IsolationTooWeak, match="at level partial, accepted is full"),
        bench(Level.PARTIAL, accept=(Level.FULL,)),
    ):
        pytest.fail("it was accepted")


def test_none_runs_only_when_it_is_accepted() -> None:
    with bench(Level.NONE) as at:
        ending, _ = at.run("exit_with_7")

    assert (ending.end, ending.exit_code, ending.level) == ("exit", 7, Level.NONE)


@pytest.mark.parametrize("fresh", [False, True], ids=["fork", "fresh"])
def test_a_child_holds_no_secret_and_no_rights(at: Bench, fresh: bool) -> None:
    ending, work = at.run("describe", fresh=fresh)

    assert ending.end == "exit", ending
    found = json.loads((work / "found.json").read_text())
    assert SECRET not in json.dumps(found["environ"]) + found["initial_environ"]
    assert found["cwd"] == str(work)
    assert found["descriptors"] == [0, 1, 2]
    assert found["temporary"] == str(work / "tmp")
    assert found["capabilities"].count("0000000000000000") >= 2
    assert "NoNewPrivs:\t1" in found["capabilities"]
    assert "Seccomp:\t2" in found["capabilities"]
    assert (found["uid"] == os.getuid()) == (os.getuid() != 0)
    assert (work / "log.txt").read_text() == "described\n"


def test_a_measuring_child_may_use_all_blas_threads(at: Bench) -> None:
    _, forked = at.run("describe")
    _, fresh = at.run("describe", fresh=True)

    assert json.loads((forked / "found.json").read_text())["environ"]["OPENBLAS_NUM_THREADS"] == "1"
    assert "OPENBLAS_NUM_THREADS" not in json.loads((fresh / "found.json").read_text())["environ"]


@pytest.mark.parametrize("fresh", [False, True], ids=["fork", "fresh"])
def test_a_child_is_pinned_to_its_cores(at: Bench, fresh: bool) -> None:
    core = max(os.sched_getaffinity(0))

    _, work = at.run("describe", cores=(core,), fresh=fresh)

    assert json.loads((work / "found.json").read_text())["affinity"] == [core]


def test_slots_run_as_different_users(at: Bench) -> None:
    if os.getuid() != 0:
        pytest.skip("only root has other users to run as")
    together = threading.Barrier(2)

    def user(found: list[int]) -> None:
        together.wait(10)
        _, work = at.run("describe")
        found.append(json.loads((work / "found.json").read_text())["uid"])

    found: list[int] = []
    threads = [threading.Thread(target=user, args=(found,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found)) == 2
    assert 0 not in found


def test_a_child_reads_what_the_call_names_and_nothing_else(at: Bench) -> None:
    given = at.folder / "input.txt"
    given.write_text("weights")
    works = [at.work() for _ in range(2)]
    for work in works:
        (work / "path.txt").write_text(str(given))

    with_it = at.sandbox.run(replace(at.call("copy_input", works[0]), readable=(given,)))
    without = at.sandbox.run(at.call("copy_input", works[1]))

    assert (with_it.exit_code, (works[0] / "copy.txt").read_text()) == (0, "weights")
    assert without.exit_code == 1
    assert "input.txt" in (works[1] / "log.txt").read_text()


def test_programs_run_only_for_calls_that_spawn(at: Bench) -> None:
    spawning, work = at.run("run_programs", spawns=True)
    plain, refused = at.run("run_programs")

    assert (spawning.exit_code, (work / "said.txt").read_text()) == (0, "child of a child\n")
    assert plain.exit_code == 1
    assert "Operation not permitted" in (refused / "log.txt").read_text()


def test_endings_name_the_exit_the_signal_and_the_error(at: Bench) -> None:
    assert at.run("exit_with_7")[0].exit_code == 7
    assert at.run("crash")[0].signal == "SIGSEGV"
    assert at.run("abort")[0].signal == "SIGABRT"
    raised, work = at.run("raise_error")
    assert raised.exit_code == 1
    assert "ValueError: no such layer" in (work / "log.txt").read_text()


def test_a_child_cannot_write_the_verdict(at: Bench) -> None:
    ending, _ = at.run("forge_verdict")

    assert (ending.end, ending.exit_code) == ("exit", 5)


def test_setup_errors_are_said_and_never_run(at: Bench) -> None:
    unknown, _ = at.run("no_such_entry")
    missing = at.sandbox.run(replace(at.call("describe", at.work()), readable=(at.folder / "absent",)))
    no_work = at.sandbox.run(at.call("describe", at.folder / "absent"))
    bad_preload = at.sandbox.run(replace(at.call("describe", at.work()), preload=("no_such_module",)))

    assert (unknown.end, "no_such_entry" in (unknown.detail or "")) == ("setup", True)
    assert (no_work.end, "absent" in (no_work.detail or "")) == ("setup", True)
    assert (bad_preload.end, "no_such_module" in (bad_preload.detail or "")) == ("setup", True), bad_preload
    assert (missing.end, "absent" in (missing.detail or "")) == ("setup", True)


def test_an_input_that_the_childs_user_may_not_read_is_a_setup_error(at: Bench) -> None:
    closed = at.folder / "closed.txt"
    closed.write_text("weights")
    closed.chmod(0o200)

    ending = at.sandbox.run(replace(at.call("describe", at.work()), readable=(closed,)))

    assert (ending.end, "readable for all" in (ending.detail or "")) == ("setup", True)


def test_a_missing_environment_is_the_operators_business(at: Bench) -> None:
    with pytest.raises(EnvironmentMissing, match="no interpreter at"):
        at.sandbox.run(replace(at.call("describe", at.work()), environment=at.folder))
    with pytest.raises(EnvironmentMissing, match="no_such_module"):
        at.sandbox.warm(at.environment, ("no_such_module",))


def test_the_self_test_prints_probes_by_policies() -> None:
    from workers.sandbox.selftest import examine

    folder = public_folder() / f"table-{os.getpid()}"
    folder.mkdir()
    pool = Pool(folder=folder, code_root=code_root(), slots=1, code=CODE)
    try:
        text = table(examine(pool, folder=folder, environment=Path(sys.prefix)))
    finally:
        pool.close()

    assert text.startswith("level full")
    assert "WRONG" not in text
    assert all(policy in text for policy in POLICIES)


def test_a_sandbox_that_was_refused_leaves_nothing() -> None:
    with nothing_left(), pytest.raises(IsolationTooWeak):
        Sandbox(folder=public_folder() / "refused", accept=(), code_root=code_root())


def test_a_device_is_reached_by_the_calls_that_name_it_alone(at: Bench) -> None:
    """Given a node of our own, like /dev/urandom; then it is read, written and controlled where it is named."""
    if os.geteuid() != 0:
        pytest.skip("only root makes device nodes")
    node = at.folder / "accelerator_0"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 9))
    node.chmod(0o666)
    told = []
    for devices in ((node,), ()):
        work = at.work()
        (work / "path.txt").write_text(str(node))
        ending = at.sandbox.run(at.call("control_device", work, devices=devices))
        assert ending.end == "exit", ending
        told.append((work / "told.txt").read_text())

    assert told[0] == "4 bytes, ioctl 4"
    assert told[1] in ("FileNotFoundError", "PermissionError")
