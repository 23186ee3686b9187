"""Measure what a run has on disk, against children that hide it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BLOCK_BYTES = 512
_ENTRY_BYTES = 4096
"""What every entry counts at least, so that floods of empty files count too."""
_GONE = (FileNotFoundError, NotADirectoryError, ProcessLookupError)


class Unmeasurable(Exception):
    """A folder the child made unreadable, or too deep to walk."""


def usage(folder: str) -> tuple[int, int]:
    """Return the bytes a folder takes on disk, and the size of its largest file.

    Raises:
        Unmeasurable: a folder cannot be read; whoever made it hides something.
    """
    total = largest = 0
    for found in _walk(folder):
        total += max(found.st_blocks * _BLOCK_BYTES, _ENTRY_BYTES)
        if stat.S_ISREG(found.st_mode):
            largest = max(largest, found.st_size)
    return total, largest


def deleted_bytes(pid: int) -> int:
    """Return what a process still holds open of files that no folder lists any more."""
    total = 0
    with suppress(*_GONE, PermissionError):
        for opened in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(*_GONE):
                found = opened.stat()
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                    total += found.st_blocks * _BLOCK_BYTES
    return total


def _walk(folder: str) -> Iterator[os.stat_result]:
    pending = [folder]
    while pending:
        here = pending.pop()
        with _measuring(here), os.scandir(here) as entries:
            for entry in entries:
                with _measuring(entry.path):
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)


@contextmanager
def _measuring(path: str) -> Iterator[None]:
    """Pass over what vanished meanwhile; anything else that cannot be looked at is hidden."""
    try:
        yield
    except _GONE:
        return
    except OSError as exc:
        raise Unmeasurable(f"{path[:200]}: {exc.strerror}") from exc
