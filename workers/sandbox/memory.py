"""Whether a host's memory runs short, so that warm zygotes must go."""

from __future__ import annotations

from pathlib import Path

KEEP_FREE = 0.15
"""Share of the memory that idle zygotes leave to runs: a builder's fourteen take 3 GiB, more than a small board has."""


def is_short(root: Path = Path("/")) -> bool:
    """Tell whether less than `KEEP_FREE` of the memory is left, in the machine or in the container around us."""
    return any(free < KEEP_FREE * total for free, total in (_of_machine(root), _of_container(root)))


def _of_machine(root: Path) -> tuple[int, int]:
    """Return free and total KiB; nothing is short where nothing is told."""
    told = _fields(root / "proc/meminfo")
    return (told["MemAvailable:"], told["MemTotal:"]) if "MemAvailable:" in told else (1, 0)


def _of_container(root: Path) -> tuple[int, int]:
    """Return free and total bytes of the control group, version 2; files that can be dropped count as free."""
    group = root / "sys/fs/cgroup"
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
    except OSError:
        return 1, 0
    if limit == "max":
        return 1, 0
    return int(limit) - used + _fields(group / "memory.stat").get("inactive_file", 0), int(limit)


def _fields(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for line in lines if len(words := line.split()) > 1}
