"""A user of its own for every slot, when the worker is root."""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

_UNUSED_FIRST, _UNUSED_COUNT = 0x70000000, 0x0FFFFFF0
"""A range no distribution, container or directory service hands out. Source: systemd, UIDS-GIDS."""
_SLOTS_PER_PROCESS = 64


def user_of(slot: int) -> int | None:
    """Return the uid of a slot, which differs between workers on a machine; None when the worker is no root."""
    if os.geteuid() != 0:
        return None
    first, count = _range()
    return first + (os.getpid() * _SLOTS_PER_PROCESS + slot) % count


@cache
def _range() -> tuple[int, int]:
    """Take the unused range, or the upper half of what a container maps."""
    inside, _, length = map(int, Path("/proc/self/uid_map").read_text().split()[:3])
    if inside + length > _UNUSED_FIRST + _UNUSED_COUNT:
        return _UNUSED_FIRST, _UNUSED_COUNT
    return inside + length // 2, length // 2 - 1


def hand_over(work: Path, uid: int | None) -> None:
    """Give the work folder to the slot's user: folders, and files that no other name shares.

    Raises:
        OSError: it does not exist.
    """
    if uid is None:
        work.stat()
        return
    os.chown(work, uid, uid)
    for folder, folders, files in os.walk(work):
        for name in (*folders, *files):
            path = Path(folder, name)
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                os.chown(path, uid, uid, follow_symlinks=False)
