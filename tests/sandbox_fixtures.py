"""What the sandbox's tests share: a readable copy of the code, an interpreter every user may run, leftovers."""

from __future__ import annotations

import atexit
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from workers.sandbox import Call, Ending, Level, Limits, Sandbox, kernel, processes
from workers.sandbox.sandbox import Setup

REPOSITORY = Path(__file__).parents[1]
NOBODY = 65534
LIMITS = Limits(wall_s=20, memory_bytes=256 << 20, disk_bytes=64 << 20, file_bytes=32 << 20, threads=64)
CODE = ("farm", "workers", "tests")
FIFO = "started.fifo"
GONE_WITHIN_S = 2.0
_COPIED = (
    *("farm/__init__.py", "farm/domain", "workers/__init__.py", "workers/sandbox"),
    *(
        "tests/sandbox_entries.py",
        "tests/sandbox_fixtures.py",
        "tests/sandbox_toolchains.py",
        "tests/sandbox_threaded.py",
        "tests/sandbox_slow.py",
    ),
)


def identity() -> dict[str, Any]:
    """Return the arguments that make subprocess drop to a user without rights."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if os.geteuid() == 0 else {}


@cache
def public_folder() -> Path:
    """Return a folder that every user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="farm-sandbox-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def code_root() -> Path:
    """Copy what a child needs of our code to where every user may read it."""
    root = public_folder() / "root"
    for part in _COPIED:
        source, target = REPOSITORY / part, root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    subprocess.run(["chmod", "-R", "a+rX", str(root)], check=True)
    return root


@cache
def public_environment() -> Path | None:
    """Return an environment that a user without rights can run; None when this machine has none."""
    for prefix in (Path(sys.prefix), Path("/usr"), Path("/usr/local")):
        try:
            check = [str(prefix / "bin" / "python3"), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
            if subprocess.run(check, cwd="/", capture_output=True, check=False, **identity()).returncode == 0:
                return prefix
        except (PermissionError, FileNotFoundError):
            continue
    return None


def environment_of(level: Level) -> Path:
    """Return an environment whose interpreter the child may run: full binds it, the others need its permissions."""
    if level is Level.FULL or os.geteuid() != 0:
        return Path(sys.prefix)
    found = public_environment()
    if found is None:
        pytest.skip("no interpreter that another user may run")
    return found


@dataclass(frozen=True, slots=True)
class Bench:
    """A sandbox at one level, and short ways to run entries in it."""

    sandbox: Sandbox
    environment: Path
    folder: Path

    def work(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def call(self, entry: str, work: Path, **changes: Any) -> Call:
        """Return a call of a test entry; names of limits change its limits."""
        limits = {name: changes.pop(name) for name in list(changes) if name in Limits.__dataclass_fields__}
        call = Call(self.environment, f"tests.sandbox_entries:{entry}", work, (), replace(LIMITS, **limits))
        return replace(call, **changes)

    def run(self, entry: str, **changes: Any) -> tuple[Ending, Path]:
        work = self.work()
        return self.sandbox.run(self.call(entry, work, **changes)), work


@contextmanager
def bench(
    level: Level, *, accept: tuple[Level, ...] | None = None, slots: int = 2, groups: Path | None = None
) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(dir=public_folder()))
    folder.chmod(0o711)
    environment = environment_of(level)
    with (
        nothing_left(),
        Sandbox(
            folder=folder / "run",
            accept=accept or (level,),
            code_root=code_root(),
            slots=slots,
            setup=Setup(at_most=level, code=CODE, probe_in=environment, groups=groups),
        ) as sandbox,
    ):
        yield Bench(sandbox, environment, folder)


class Running:
    """A run in a thread of its own, which has said that it started."""

    def __init__(self, bench: Bench, entry: str, **changes: Any) -> None:
        self.cancel = threading.Event()
        self.ending: Ending | None = None
        self.work = bench.work()
        os.mkfifo(self.work / FIFO)
        call = bench.call(entry, self.work, **changes)
        self._thread = threading.Thread(target=self._run, args=(bench.sandbox, call))
        self._thread.start()
        assert (self.work / FIFO).read_text() == "started"

    def _run(self, sandbox: Sandbox, call: Call) -> None:
        self.ending = sandbox.run(call, cancel=self.cancel)

    def join(self) -> Ending:
        self._thread.join(30)
        assert self.ending is not None, "the run did not end"
        return self.ending


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that none can hide."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Assert that no process below this one outlives the block by more than a moment."""
    before = processes.descendants(os.getpid())
    yield
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := [pid for pid in processes.descendants(os.getpid()) if pid not in before and _lives(pid)]:
        assert time.monotonic() < deadline, f"still alive: {survivors(left)}"
        time.sleep(0.01)


def survivors(pids: list[int]) -> list[str]:
    """Return the commands of processes that still live after a moment."""
    wait_for_death(pids)
    return [_command(pid) for pid in pids if _lives(pid)]


def wait_for_death(pids: list[int]) -> None:
    """Return when all have ended, or after GONE_WITHIN_S."""
    deadline = time.monotonic() + GONE_WITHIN_S
    for pid in pids:
        try:
            opened = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        select.select([opened], [], [], max(0.0, deadline - time.monotonic()))
        os.close(opened)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
