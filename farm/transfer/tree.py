"""Fetch the files of an artifact below one folder; names are checked before the first byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from farm.domain.errors import UnsafeModel
from farm.domain.names import check_names
from farm.transfer.digest import hash_file
from farm.transfer.download import download
from farm.transfer.errors import foreign_errors
from farm.transfer.link import Link, Progress, using
from farm.wire.transfers import Download


def fetch_tree(
    items: Sequence[Download],
    folder: Path,
    *,
    link: Link | None = None,
    on_progress: Progress | None = None,
    refresh_url: Callable[[Download], str] | None = None,
) -> None:
    """Fetch every item to its own name below `folder`; a file that is there and right is not fetched again.

    `on_progress` is told the bytes of all items together.

    Raises:
        UnsafeModel: a name is absolute, climbs, repeats, holds control characters or follows a link.
    """
    check_names([item.name for item in items])
    total = _Total(on_progress)
    with using(link) as used, ThreadPoolExecutor(used.connections) as pool:
        futures = [
            pool.submit(_fetch, item, folder, link=used, on_progress=total.of(item.name), refresh_url=refresh_url)
            for item in items
        ]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fetch(
    item: Download,
    folder: Path,
    *,
    link: Link,
    on_progress: Progress,
    refresh_url: Callable[[Download], str] | None,
) -> None:
    destination = _destination(folder, item.name)
    if _is_there(destination, item):
        on_progress(item.size_bytes)
        return
    fresh = partial(refresh_url, item) if refresh_url else None
    download(item, destination, link=link, on_progress=on_progress, refresh_url=fresh)


def _destination(folder: Path, name: str) -> Path:
    """Make the folders of a name one by one, through no link."""
    path = folder
    with foreign_errors(f"{name} can't be written"):
        for segment in PurePosixPath(name).parts[:-1]:
            path /= segment
            path.mkdir(exist_ok=True)
            if path.is_symlink():
                raise UnsafeModel(f"{path} is a link; {name!r} would be written through it, which is refused.")
    return path / PurePosixPath(name).name


def _is_there(destination: Path, item: Download) -> bool:
    if destination.is_symlink() or not destination.is_file() or destination.stat().st_size != item.size_bytes:
        return False
    return hash_file(destination).sha256 == item.sha256


@dataclass(slots=True)
class _Total:
    """Adds up the progress of several files."""

    on_progress: Progress | None
    done: dict[str, int] = field(default_factory=dict)
    done_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, name: str) -> Progress:
        return partial(self._count, name)

    def _count(self, name: str, received_bytes: int) -> None:
        with self.lock:
            self.done_bytes += received_bytes - self.done.get(name, 0)
            self.done[name] = received_bytes
            if self.on_progress is not None:
                self.on_progress(self.done_bytes)
