"""A host's inputs by content: fetched once, kept read-only, given up oldest first, never while in use.

An entry is a folder, complete once it has its final name. A lock file beside it (flock) is held shared by its users and
exclusively by who fetches or evicts it, over threads and processes alike; the kernel drops the locks of a process that
dies. The lock file's modification time is the entry's last use.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farm.domain.codec import digest
from farm.domain.errors import BadRequest, HostFull
from farm.domain.names import check_names
from farm.transfer import Link, fetch_tree
from farm.transfer.errors import foreign_errors
from farm.wire.transfers import Download

_READ_ONLY = 0o444
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Cache:
    """Content below `folder`; entries nobody uses give way when all together hold more than `limit_bytes`."""

    folder: Path
    limit_bytes: int

    @contextmanager
    def fetch(self, items: Sequence[Download], is_tree: bool, link: Link) -> Iterator[Path]:
        """Hold an artifact on this host: the path of its file, or of its folder when it is a tree.

        Raises:
            UnsafeModel: a name would leave the folder.
            DigestMismatch: the store holds other bytes.
            HostFull: no room, even without what nobody uses.
        """
        check_names([item.name for item in items])
        if not is_tree and len(items) != 1:
            raise BadRequest(f"{len(items)} files were given as one; only a tree has several.")
        with foreign_errors("the input cache"):
            entry = self._entry(items)
            held = self._held(entry, items, link)
        try:
            yield entry.content if is_tree else entry.content / items[0].name
        finally:
            os.close(held)

    def _entry(self, items: Sequence[Download]) -> _Entry:
        self.folder.mkdir(parents=True, exist_ok=True)
        return _Entry(self.folder, digest(sorted([item.name, item.sha256, item.size_bytes] for item in items)))

    def _held(self, entry: _Entry, items: Sequence[Download], link: Link) -> int:
        """Return a descriptor that holds the entry's shared lock, with the entry complete."""
        while True:
            held = entry.locked(fcntl.LOCK_SH)
            if entry.is_whole(items):
                os.utime(held)
                return held
            os.close(held)
            exclusive = entry.locked(fcntl.LOCK_EX)
            try:
                if not entry.is_whole(items):
                    self._fill(entry, items, link)
            finally:
                os.close(exclusive)

    def _fill(self, entry: _Entry, items: Sequence[Download], link: Link) -> None:
        entry.remove_content()
        self._make_room(self.limit_bytes - sum(item.size_bytes for item in items))
        entry.partial.mkdir(exist_ok=True)
        try:
            fetch_tree(items, entry.partial, link=link)
        except HostFull:
            self._make_room(0)
            fetch_tree(items, entry.partial, link=link)
        for item in items:
            (entry.partial / item.name).chmod(_READ_ONLY)
        entry.partial.rename(entry.content)

    def _make_room(self, limit_bytes: int) -> None:
        """Evict what nobody uses, longest unused first, until the rest fits the limit."""
        entries = sorted(_entries(self.folder), key=_Entry.last_use)
        sizes = [entry.size_bytes() for entry in entries]
        excess_bytes = sum(sizes) - max(limit_bytes, 0)
        for entry, size_bytes in zip(entries, sizes, strict=True):
            if excess_bytes <= 0:
                return
            if entry.evict():
                excess_bytes -= size_bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    """One artifact's place in the cache."""

    folder: Path
    name: str

    @property
    def content(self) -> Path:
        return self.folder / self.name

    @property
    def partial(self) -> Path:
        return self.folder / f"{self.name}.partial"

    @property
    def doomed(self) -> Path:
        return self.folder / f"{self.name}.doomed"

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.name}.lock"

    def locked(self, how: int) -> int:
        """Open the lock file and lock it; again when it was evicted between the two.

        Raises:
            BlockingIOError: LOCK_NB was asked for and somebody holds it.
        """
        while True:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, how)
                if self._is_current(descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(self.lock.stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def is_whole(self, items: Sequence[Download]) -> bool:
        """Compare every file's size with what it must be."""
        try:
            return all((self.content / item.name).stat().st_size == item.size_bytes for item in items)
        except OSError:
            return False

    def last_use(self) -> float:
        return self.lock.stat().st_mtime if self.lock.exists() else 0.0

    def size_bytes(self) -> int:
        roots = (self.content, self.partial, self.doomed)
        return sum(path.lstat().st_size for root in roots for path in root.rglob("*") if path.is_file())

    def evict(self) -> bool:
        """Remove the entry unless somebody uses it."""
        try:
            held = self.locked(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            self.remove_content()
            if self.partial.exists():
                shutil.rmtree(self.partial)
            self.lock.unlink()
        finally:
            os.close(held)
        return True

    def remove_content(self) -> None:
        """Take the name away first, so that a half-removed entry never looks whole."""
        if self.doomed.exists():
            shutil.rmtree(self.doomed)
        if self.content.exists():
            self.content.rename(self.doomed)
            shutil.rmtree(self.doomed)


def _entries(folder: Path) -> Iterator[_Entry]:
    """List the entries by their digests; what else lies there is not ours to remove."""
    names = {path.name.partition(".")[0] for path in folder.iterdir()}
    return (_Entry(folder, name) for name in names if _DIGEST.fullmatch(name))
