"""Open what a path names and nothing that a link leads to: of folders that somebody else may write in."""

from __future__ import annotations

import errno
import os
import stat

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def is_plain(path: str) -> bool:
    """Tell whether a path is absolute and has no `..`, no `.` and no doubled slash."""
    return path.startswith("/") and not path.startswith("//") and os.path.normpath(path) == path


def open_plain(path: str, flags: int = os.O_PATH) -> int:
    """Open a plain path part by part, so that no link on the way is followed, whoever puts one there meanwhile.

    Raises:
        OSError: a part is missing, or is a link, or the path is not plain.
    """
    if not is_plain(path):
        raise OSError(errno.EINVAL, "not an absolute path without `..`", path)
    *folders, last = path.split("/")[1:] or [""]
    held = os.open("/", _STEP | os.O_DIRECTORY)
    try:
        for name in folders:
            inner = os.open(name, _STEP | os.O_DIRECTORY, dir_fd=held)
            os.close(held)
            held = inner
        opened = os.open(last or ".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=held)
    except OSError as exc:
        raise OSError(exc.errno, os.strerror(exc.errno or 0), path) from exc
    finally:
        os.close(held)
    if stat.S_ISLNK(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return opened
