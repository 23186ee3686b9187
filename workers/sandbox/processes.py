"""Look at and end processes by /proc."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

_ANONYMOUS = ("RssAnon:", "RssShmem:")


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


def sweep(*, session: int, uid: int | None) -> None:
    """Kill what a dead supervisor left: its session, and everything that runs as the slot's user."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _belongs(entry, session, uid):
            kill(int(entry.name))


def _belongs(entry: Path, session: int, uid: int | None) -> bool:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        return int(fields[3]) == session or (uid is not None and entry.stat().st_uid == uid)
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
