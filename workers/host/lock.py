"""One lock for a whole host: a measurement has it alone, builds share it.

It is made of `flock`s, which the kernel releases when a process dies. A taker first holds the gate, then enters the
room, then leaves the gate: while a measurement waits at the room it holds the gate, so no build can slip in before it.
Threads and processes count alike, for every acquisition opens its own file. Containers of one host share the lock when
they mount the same folder. A child made by fork alone would keep the lock; children here are exec'd, which closes it.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from farm.domain.codec import decode, encode
from farm.domain.errors import ConfigurationError, JobCancelled

Mode = Literal["shared", "exclusive"]
OPERATIONS: dict[Mode, int] = {"shared": fcntl.LOCK_SH, "exclusive": fcntl.LOCK_EX}
POLL_S = (0.01, 0.1)
"""Pauses between looks grow from the first to the second; a blocking flock could not be cancelled."""

_serial = itertools.count()
_owner = secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Waiter:
    """Someone who waits for the lock, or has it: `label` is the caller's (a step id), `since` in seconds since 1970.

    `owner` tells one process from another, also where containers count their processes anew.
    """

    mode: str
    label: str
    pid: int
    since: float
    owner: str = ""


class HostLock:
    """The host's lock, kept in a folder that all its users share."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self._gate, self._room = self.folder / "gate", self.folder / "room"
        self._waiting, self._holding = self.folder / "waiting", self.folder / "holding"
        for shared in (self.folder, self._waiting, self._holding):
            _make_shared_folder(shared)

    @contextmanager
    def shared(self, label: str = "", cancel: threading.Event | None = None) -> Iterator[None]:
        """Hold the lock beside other builds.

        Raises:
            JobCancelled: `cancel` was set while waiting.
        """
        with self._held("shared", label, cancel or threading.Event()):
            yield

    @contextmanager
    def exclusive(self, label: str = "", cancel: threading.Event | None = None) -> Iterator[None]:
        """Hold the lock alone, for a measurement.

        Raises:
            JobCancelled: `cancel` was set while waiting.
        """
        with self._held("exclusive", label, cancel or threading.Event()):
            yield

    def waiting(self) -> tuple[Waiter, ...]:
        """List who waits, the longest first; entries of dead processes are removed."""
        return _entries(self._waiting)

    def held_by_others(self) -> bool:
        """Tell whether another process than this one has the lock: another farm's worker."""
        return any(holder.owner != _owner for holder in _entries(self._holding))

    @contextmanager
    def _held(self, mode: Mode, label: str, cancel: threading.Event) -> Iterator[None]:
        with self._announced(self._waiting, mode, label):
            gate = _acquire(self._gate, fcntl.LOCK_EX, cancel, label)
            try:
                room = _acquire(self._room, OPERATIONS[mode], cancel, label)
            finally:
                os.close(gate)
        try:
            with self._announced(self._holding, mode, label):
                yield
        finally:
            os.close(room)

    @contextmanager
    def _announced(self, folder: Path, mode: Mode, label: str) -> Iterator[None]:
        """Leave an entry, locked as long as this process lives and needs it; renamed: it is never seen unlocked."""
        path = folder / f"{os.getpid()}-{next(_serial)}.json"
        draft = path.with_suffix(".draft")
        entry = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(entry, fcntl.LOCK_EX)
            os.write(entry, json.dumps(encode(Waiter(mode, label, os.getpid(), time.time(), _owner))).encode())
            draft.rename(path)
            yield
        finally:
            os.close(entry)
            for leftover in (draft, path):
                leftover.unlink(missing_ok=True)


def default_folder() -> Path:
    """Choose a folder that every user of this host reaches: /run/lock where it is writable, else the temporary one."""
    base = Path("/run/lock")
    return (base if os.access(base, os.W_OK) else Path(tempfile.gettempdir())) / "edge-model-farm"


def _acquire(path: Path, operation: int, cancel: threading.Event, label: str) -> int:
    """Wait for a flock and give the descriptor that holds it."""
    descriptor = _open(path)
    pause_s, longest_s = POLL_S
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if cancel.wait(pause_s):
                os.close(descriptor)
                raise JobCancelled(
                    f"{label or 'The step'} was cancelled while it waited for the host's lock."
                ) from None
            pause_s = min(pause_s * 1.5, longest_s)
        else:
            return descriptor


def _open(path: Path) -> int:
    """Open for locking; not created when it exists, which a sticky folder refuses for another user's file."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    return os.open(path, flags | os.O_CREAT, 0o644)


def _make_shared_folder(folder: Path) -> None:
    """Create a folder in which every user may add files and remove only their own."""
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    except FileExistsError:
        pass
    except OSError as exc:
        raise ConfigurationError(f"The host's lock folder {folder} can't be created: {exc.strerror}.") from exc


def _entries(folder: Path) -> tuple[Waiter, ...]:
    found = [entry for path in folder.glob("*.json") if (entry := _living(path))]
    return tuple(sorted(found, key=lambda entry: entry.since))


def _living(path: Path) -> Waiter | None:
    """Read an entry, unless its lock is free: then its owner is gone."""
    try:
        entry = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(entry, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return decode(Waiter, json.loads(path.read_text()))
    finally:
        os.close(entry)
    with suppress(PermissionError):
        path.unlink(missing_ok=True)
    return None
