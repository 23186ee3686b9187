"""Look at and end processes by /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_ANONYMOUS = ("RssAnon:", "RssShmem:")
_DEAD = ("Z", "X")
_DYING_S = 0.001
_SWEEP_S = 2.0


def descendants(pid: int) -> list[int]:
    """Return every process below `pid`, as seen from the host."""
    found: list[int] = []
    pending = [pid]
    while pending:
        children = list(_children(pending.pop()))
        found += children
        pending += children
    return found


def _children(pid: int) -> Iterator[int]:
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return


def status(pid: int, fields: tuple[str, ...]) -> int:
    """Add up fields of /proc/PID/status, in bytes; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(fields))


def anonymous_bytes(pid: int) -> int:
    """Return anonymous and shared memory; file pages, which the kernel can drop, do not count."""
    return status(pid, _ANONYMOUS)


def thread_names() -> list[str]:
    tasks = Path("/proc/self/task").iterdir()
    return [(task / "comm").read_text().strip() for task in tasks]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_tree(parent: int) -> None:
    """Kill and reap all descendants of this process, a subreaper, until none is left."""
    while remaining := descendants(parent):
        for pid in remaining:
            kill(pid)
        reap(remaining)


def reap(pids: list[int]) -> None:
    """Collect what has ended; wait for the direct children among `pids`."""
    for pid in pids:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            continue


def sweep(*, session: int, uid: int | None) -> list[int]:
    """Kill what a dead supervisor left: its session, then everything that runs as the slot's user.

    What forks while its parent is found is not found, so it looks again until a look finds nothing alive; a user's
    processes die at once. Returns what outran it without a user of its own.
    """
    deadline = time.monotonic() + _SWEEP_S
    while (left := _of_session(session, but_of=uid)) and time.monotonic() < deadline:
        for pid in left:
            kill(pid)
        time.sleep(_DYING_S)
    if uid is not None:
        kill_user(uid)
    return left


def kill_user(uid: int) -> None:
    """Kill every process of a user in one call, which nothing can outrun by forking (kill(2), a pid of -1)."""
    subprocess.run(["/bin/sh", "-c", "kill -s KILL -- -1"], user=uid, group=uid, extra_groups=(), cwd="/", check=False)


def _of_session(session: int, *, but_of: int | None) -> list[int]:
    """Return the living processes of a session that do not run as the user `but_of`."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if _belongs(entry, session, but_of)]


def _belongs(entry: Path, session: int, but_of: int | None) -> bool:
    if not entry.name.isdigit():
        return False
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        return int(fields[3]) == session and fields[0] not in _DEAD and entry.stat().st_uid != but_of
    except (FileNotFoundError, ProcessLookupError):
        return False


def user_threads(uid: int) -> int:
    """Count the threads a user runs now: what a per-user limit has to leave room for."""
    count = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == uid:
                count += len(list((entry / "task").iterdir()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return count
