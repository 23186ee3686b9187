"""The sandbox's parts that need no child."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from workers.sandbox import Level, Limits, cgroup, disk, pages, slots
from workers.sandbox.environment import child_environment, zygote_environment
from workers.sandbox.job import Job, Observed, pack, setup_failed, unpack_job, unpack_observed
from workers.sandbox.selftest import Finding, Row, Trial, table

JOB = Job(
    entry="workers.sandbox.empty:main",
    work="/place/run",
    readable=("/data/model.onnx",),
    import_root="/place/code",
    code=("/farm/farm", "/farm/workers"),
    limits=Limits(wall_s=1, memory_bytes=2, disk_bytes=3, file_bytes=4, cpu_s=None),
    level=Level.FULL,
    fresh=False,
    spawns=True,
    uid=70000,
    cores=(0, 1),
)


def test_jobs_and_verdicts_survive_their_journey() -> None:
    observed = Observed("signal", signal="SIGSEGV", run_time_s=1.5, peak_memory_bytes=7, started=3.25)

    assert unpack_job(pack(JOB)) == JOB
    assert unpack_observed(pack(observed)) == observed
    assert unpack_observed(pack(setup_failed("no such folder"))).detail == "no such folder"


def test_importing_the_package_loads_no_worker_side() -> None:
    program = "import sys, workers.sandbox; print('subprocess' in sys.modules, 'workers.sandbox.pool' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]


def test_environments_hold_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_TOKEN", "secret")

    built = zygote_environment(Path("/envs/builder"), import_root=Path("/code"), home=Path("/home"))

    assert "secret" not in repr(built) + repr(child_environment(JOB))
    assert built["ORT_DISABLE_TELEMETRY"] == built["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"


def test_only_a_fork_is_held_to_one_blas_thread() -> None:
    assert child_environment(JOB)["OPENBLAS_NUM_THREADS"] == "1"
    assert "OPENBLAS_NUM_THREADS" not in child_environment(replace(JOB, fresh=True))


def test_disk_usage_counts_blocks_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "big").write_bytes(bytes(1 << 20))
    for number in range(10):
        (tmp_path / f"empty-{number}").touch()
    (tmp_path / "link").symlink_to("/usr")

    total, largest = disk.usage(str(tmp_path))

    assert largest == 1 << 20
    assert (1 << 20) + 12 * 4096 <= total < (1 << 20) + 20 * 4096


def test_a_folder_too_deep_to_walk_is_not_measured(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    with pytest.raises(disk.Unmeasurable, match="name too long"):
        disk.usage(str(tmp_path))

    subprocess.run(["rm", "-rf", str(tmp_path)], check=True)


def test_a_missing_folder_takes_nothing(tmp_path: Path) -> None:
    assert disk.usage(str(tmp_path / "gone")) == (0, 0)


def test_open_deleted_files_are_counted(tmp_path: Path) -> None:
    before = disk.deleted_bytes(os.getpid())
    with (tmp_path / "gone").open("wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        (tmp_path / "gone").unlink()

        assert disk.deleted_bytes(os.getpid()) >= before + (1 << 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a user for each slot")
@pytest.mark.root
def test_slots_have_users_of_their_own() -> None:
    users = {slots.user_of(slot) for slot in range(4)}

    assert len(users) == 4
    assert all(user is not None and user > 65535 for user in users)


@pytest.mark.parametrize(
    ("uid_map", "expected"),
    [
        ("         0          0 4294967295\n", (0x70000000, 0x0FFFFFF0)),
        ("         0     100000      65536\n", (32768, 32768)),
        ("         0       1000          1\n         1     100000      65536\n", (32769, 32768)),
    ],
    ids=["host", "container", "rootless container"],
)
def test_slots_take_users_that_nobody_else_has(uid_map: str, expected: tuple[int, int]) -> None:
    assert slots.user_range(uid_map) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.root
def test_files_with_other_names_are_not_given_away(tmp_path: Path) -> None:
    cached = tmp_path / "cached"
    cached.write_text("shared")
    work = tmp_path / "work"
    work.mkdir()
    os.link(cached, work / "hardlink")
    (work / "own").write_text("own")
    (work / "symlink").symlink_to(cached)

    slots.hand_over(work, 70000)

    assert ((work / "own").stat().st_uid, work.stat().st_uid) == (70000, 70000)
    assert cached.stat().st_uid == os.getuid()


def test_the_table_shows_what_is_wrong() -> None:
    rows = (Row("read_passwd", "fork", False, None), Row("write_work", "fork", True, None))
    trial = Trial(Level.FULL, rows, ("policy fresh: setup no namespaces",))
    finding = Finding(Level.NONE, trial.reasons, (trial,))

    text = table(finding)

    assert not trial.holds
    assert "missing: read_passwd under fork succeeded" in text
    assert "WRONG: works" in text
    assert "error: policy fresh: setup no namespaces" in text


@pytest.fixture
def delegated(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").touch()
    return tmp_path


def test_a_delegated_group_is_usable(delegated: Path) -> None:
    assert cgroup.usable(delegated, is_top=True)


def test_a_group_without_memory_limits_is_not_used(delegated: Path) -> None:
    (delegated / "cgroup.subtree_control").write_text("cpu pids\n")

    assert not cgroup.usable(delegated, is_top=True)


def test_root_uses_only_what_was_delegated_to_it(delegated: Path) -> None:
    assert cgroup.usable(delegated, is_top=False) == (os.geteuid() != 0)


def test_a_group_gets_the_limits_its_controllers_have(delegated: Path) -> None:
    made = cgroup.make(delegated, "run", JOB.limits)

    assert list(made.iterdir()) == []
    cgroup.remove(made)
    assert not made.exists()


@pytest.mark.parametrize(
    ("events", "ran_out"), [("oom 3\noom_kill 0\n", False), ("oom 1\noom_kill 2\n", True), ("", False)]
)
def test_running_out_of_memory_is_read_from_the_kernel(tmp_path: Path, events: str, ran_out: bool) -> None:
    (tmp_path / "memory.events").write_text(events)

    assert cgroup.ran_out_of_memory(str(tmp_path)) is ran_out


def test_the_cgroup2_mount_is_found() -> None:
    mounts = "24 1 0:22 / /proc rw - proc proc rw\n31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"

    assert cgroup.mount_point(mounts) == Path("/sys/fs/cgroup")
    assert cgroup.mount_point("24 1 0:22 / /proc rw - proc proc rw\n") is None


MAPS = """\
00400000-00a00000 rw-p 00000000 fe:00 17 /usr/bin/python3.11
01100000-01700000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
7f0000400000-7f0000800000 r--p 00000000 00:00 0
7f0000800000-7f0000a00000 rw-s 00000000 00:00 0
7f0000a00000-7f0000bff000 rw-p 00000000 00:00 0
7ffd00000000-7ffd00800000 rw-p 00000000 00:00 0 [stack]
"""


def test_only_whole_huge_pages_of_private_memory_are_gathered() -> None:
    assert [hex(at) for at in pages._whole_pages(MAPS)] == ["0x1200000", "0x1400000", "0x7f0000000000"]


def test_gathering_leaves_memory_as_it_was() -> None:
    held = bytearray(os.urandom(6 << 20))
    before = bytes(held)

    assert pages.gather() >= 0
    assert held == before
