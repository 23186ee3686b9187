"""Read small files of procfs and sysfs below a root; what is missing or unreadable is None.

Every function takes the root, so that the same code reads this machine and a tree copied from another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Seconds of one core since boot. Steal is time the hypervisor gave to others."""

    busy_s: float
    steal_s: float
    total_s: float


TICKS_PER_S = 100
"""USER_HZ, fixed in Linux's interface to user space on every architecture of ours."""


def text(root: Path, name: str) -> str | None:
    """Read a file, without its final newline or NUL."""
    try:
        return (root / name).read_bytes().decode(errors="replace").rstrip("\0\n ")
    except OSError:
        return None


def number(root: Path, name: str, base: int = 10) -> int | None:
    value = text(root, name)
    try:
        return int(value, base) if value is not None else None
    except ValueError:
        return None


def matches(root: Path, pattern: str) -> Iterator[str]:
    """List names below the root that match a glob, sorted; numbers in them count as numbers."""
    found = (str(path.relative_to(root)) for path in root.glob(pattern))
    yield from sorted(found, key=lambda name: (len(name), name))


def core_list(value: str | None) -> tuple[int, ...]:
    """Expand "0-3,6" to (0, 1, 2, 3, 6)."""
    cores: list[int] = []
    for part in filter(None, (value or "").split(",")):
        first, _, last = part.partition("-")
        cores.extend(range(int(first), int(last or first) + 1))
    return tuple(cores)


def status_field(root: Path, name: str, key: str) -> str | None:
    """Find `key: value` in a file of such lines."""
    for line in (text(root, name) or "").splitlines():
        label, _, value = line.partition(":")
        if label.strip() == key:
            return value.strip()
    return None


def kibibytes(root: Path, name: str, key: str) -> int | None:
    """Find `key: N kB` and give bytes."""
    value = status_field(root, name, key)
    return int(value.split()[0]) * 1024 if value else None


def core_times(root: Path) -> dict[int, CoreTime]:
    """Read busy, steal and total time of every core from /proc/stat."""
    times = {}
    for line in (text(root, "proc/stat") or "").splitlines():
        label, *fields = line.split()
        if label.startswith("cpu") and label != "cpu":
            times[int(label[3:])] = _core_time([int(field) / TICKS_PER_S for field in fields])
    return times


def _core_time(fields: list[float]) -> CoreTime:
    """Add up the columns. Source: proc_stat(5); guest times are within user and nice."""
    user, nice, system, idle, iowait, irq, softirq, steal = (fields + [0.0] * 8)[:8]
    busy = user + nice + system + irq + softirq
    return CoreTime(busy, steal, busy + idle + iowait + steal)
