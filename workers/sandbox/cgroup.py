"""A control group for each run, where the operator delegated one (version 2, with memory and pids).

It makes certain what polling only makes probable: the kernel says that memory ran out, one write kills a whole tree.
Source: Linux admin guide, cgroup-v2; systemd, CGROUP_DELEGATION.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path

from workers.sandbox.values import Limits

_NEEDED = {"memory", "pids"}
_EMPTY_WITHIN_S = 2
_DELEGATION_MARKS = ("trusted.delegate", "user.delegate")


def delegated() -> Path | None:
    """Return the folder we may make groups in; None when there is none.

    It is the parent of our own group (systemd: Delegate=yes with DelegateSubgroup=), or the root of a container's view.
    """
    mount = mount_point(Path("/proc/self/mountinfo").read_text())
    own = _own_path(Path("/proc/self/cgroup").read_text())
    if mount is None or own is None:
        return None
    parent = mount if own == "/" else Path(f"{mount}{own}").parent
    return parent if usable(parent, is_top=parent == mount) else None


def usable(parent: Path, *, is_top: bool) -> bool:
    """Tell whether groups made here get memory and pids limits, and whether nobody else manages the folder."""
    try:
        given = set((parent / "cgroup.subtree_control").read_text().split())
    except OSError:
        return False
    writable = os.access(parent, os.W_OK) and os.access(parent / "cgroup.procs", os.W_OK)
    return given >= _NEEDED and writable and (os.geteuid() != 0 or is_top or _is_marked(parent))


def make(parent: Path, name: str, limits: Limits) -> Path:
    """Make a group with the limits its controllers allow.

    Raises:
        OSError: it may not be made.
    """
    group = parent / name
    group.mkdir()
    settings = {
        "memory.max": limits.memory_bytes,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "pids.max": limits.threads + 2,
    }
    for file, value in settings.items():
        if (group / file).exists():
            (group / file).write_text(str(value))
    return group


def join(group: str) -> None:
    """Move this process, and what it will start, into a group."""
    Path(group, "cgroup.procs").write_text("0")


def kill(group: str) -> None:
    """Kill everything in a group; kernels before 5.14 can't, and leave it to the other ways."""
    with suppress(FileNotFoundError, PermissionError):
        Path(group, "cgroup.kill").write_text("1")


def ran_out_of_memory(group: str) -> bool:
    events = _read(Path(group, "memory.events")).split()
    return any(int(count) > 0 for name, count in zip(events[::2], events[1::2], strict=True) if name == "oom_kill")


def remove(group: Path) -> None:
    """Remove a group, after its killed processes are gone; one that never empties is left behind."""
    with suppress(OSError):
        _await_empty(group)
        group.rmdir()


def _await_empty(group: Path) -> None:
    events = group / "cgroup.events"
    if not events.exists():
        return
    with events.open() as file:
        changed = select.poll()
        changed.register(file, select.POLLPRI)
        while "populated 1" in file.read() and changed.poll(_EMPTY_WITHIN_S * 1000):
            file.seek(0)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def mount_point(mounts: str) -> Path | None:
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split()[4])
    return None


def _own_path(groups: str) -> str | None:
    return next((line.removeprefix("0::") for line in groups.splitlines() if line.startswith("0::")), None)


def _is_marked(parent: Path) -> bool:
    for mark in _DELEGATION_MARKS:
        with suppress(OSError):
            if os.getxattr(parent, mark) == b"1":
                return True
    return False
