"""See which other processes took processor time while something was measured.

Source: proc(5), /proc/PID/stat (comm, ppid, utime, stime, starttime).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.host.readings import TICKS_PER_S, text

SHOWN = 5
LEAST_CORES = 0.01
"""A process that took less than this share of one core is not told of."""

Identity = tuple[int, int]
"""Process id and start time: ids are used again."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process at one moment; `cpu_s` are seconds of user and system time so far."""

    parent: int
    name: str
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Competitor:
    """Processes of one name that ran beside a measurement; `cores` is their processor time over its duration."""

    name: str
    cores: float


def processes(root: Path = Path("/")) -> dict[Identity, Process]:
    """Read every process; one that ends meanwhile is left out."""
    found = {}
    for folder in (root / "proc").glob("[0-9]*"):
        if (read := _process(text(root, f"proc/{folder.name}/stat"))) is not None:
            (started, process) = read
            found[int(folder.name), started] = process
    return found


def competitors(
    before: Mapping[Identity, Process], after: Mapping[Identity, Process], *, duration_s: float, own: int
) -> tuple[Competitor, ...]:
    """Name the processes that took most time in between, the busiest first.

    Args:
        before: at the beginning; what began later counts with all its time.
        after: at the end; what ended meanwhile can't be seen, and shows as load alone.
        duration_s: of the time in between.
        own: the process that measures; it and all below it are left out.
    """
    family = _family(after, own)
    spent: dict[str, float] = {}
    for identity, process in after.items():
        if identity[0] not in family:
            former = before[identity].cpu_s if identity in before else 0.0
            spent[process.name] = spent.get(process.name, 0.0) + process.cpu_s - former
    ranked = sorted(spent.items(), key=lambda item: (-item[1], item[0]))
    told = [Competitor(name, seconds / duration_s) for name, seconds in ranked[:SHOWN] if duration_s > 0]
    return tuple(one for one in told if one.cores >= LEAST_CORES)


def own_pid(root: Path) -> int:
    """Give this process's id; 0, which is nobody's, in a tree of another machine."""
    return os.getpid() if root == Path("/") else 0


def _process(line: str | None) -> tuple[int, Process] | None:
    """Read "PID (NAME) STATE PPID …"; the name may hold spaces and parentheses."""
    head, closed, tail = (line or "").rpartition(")")
    fields = tail.split()
    if not closed or len(fields) < 20:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return int(fields[19]), Process(int(fields[1]), head.partition("(")[2], ticks / TICKS_PER_S)


def _family(found: Mapping[Identity, Process], own: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for (pid, _), process in found.items():
        children.setdefault(process.parent, []).append(pid)
    family, pending = set[int](), [own]
    while pending:
        pid = pending.pop()
        if pid not in family:
            family.add(pid)
            pending += children.get(pid, [])
    return family
