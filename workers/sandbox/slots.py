"""A user of its own for every slot, when the worker is root."""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

from workers.sandbox.plain import open_plain

_UNUSED_FIRST, _UNUSED_COUNT = 0x70000000, 0x0FFFFFF0
"""A range no distribution, container or directory service hands out. Source: systemd, UIDS-GIDS."""
_SLOTS_PER_PROCESS = 64


def user_of(slot: int) -> int | None:
    """Return the uid of a slot, which differs between workers on a machine; None when the worker is no root."""
    if os.geteuid() != 0:
        return None
    first, count = _mapped()
    return first + (os.getpid() * _SLOTS_PER_PROCESS + slot) % count


@cache
def _mapped() -> tuple[int, int]:
    return user_range(Path("/proc/self/uid_map").read_text())


def user_range(uid_map: str) -> tuple[int, int]:
    """Return the first uid and the number of uids for slots: the unused range, or half of what a container maps."""
    extents = [tuple(map(int, line.split())) for line in uid_map.splitlines()]
    first, _, length = max(extents, key=lambda extent: extent[2])
    if first + length > _UNUSED_FIRST + _UNUSED_COUNT:
        return _UNUSED_FIRST, _UNUSED_COUNT
    return first + length // 2, max(1, length // 2)


def hand_over(work: Path, uid: int | None, *, plainly: bool = False) -> None:
    """Give the work folder to the slot's user: folders, and files that no other name shares.

    No link is followed to it when it is opened `plainly`, as a folder is that somebody else may write beside.

    Raises:
        OSError: it does not exist, or is a link.
    """
    if uid is None:
        work.stat()
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = open_plain(str(work), flags) if plainly else os.open(work, flags)
    try:
        give(opened, uid)
    finally:
        os.close(opened)


def give(folder: int, uid: int) -> None:
    """Give away an open folder and what is in it, whatever its path leads to by now.

    Raises:
        OSError: it is too deep, or changes meanwhile.
    """
    os.fchown(folder, uid, uid)
    try:
        for _, folders, files, here in os.fwalk(".", dir_fd=folder):
            for name in (*folders, *files):
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) or found.st_nlink == 1:
                    os.chown(name, uid, uid, dir_fd=here, follow_symlinks=False)
    except RecursionError as exc:
        raise OSError("its folders are nested too deep") from exc
