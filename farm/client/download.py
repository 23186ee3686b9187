"""Fetch results into folders: nothing twice, nothing unverified."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from farm.domain.errors import NotFound, UnsafeModel
from farm.domain.names import check_names
from farm.transfer import Link, download, hash_file, open_link
from farm.transfer.download import part_path
from farm.transfer.errors import foreign_errors
from farm.wire.jobs import ResultFiles
from farm.wire.transfers import Download

MANIFEST = "manifest.json"
How = Literal["downloaded", "resumed", "kept"]
OnFile = Callable[[str, int, int], None]
"""Called with folder/name, the bytes that are here so far and the file's size."""
ListFiles = Callable[[], Sequence[ResultFiles]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file of a result on this machine, and how it came there."""

    path: Path
    sha256: str
    size_bytes: int
    how: How


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go, how the store is reached, and who is told.

    Attributes:
        list_files: asks the farm for the files; asked again when a presigned URL has run out.
    """

    root: Path
    link: Link
    list_files: ListFiles
    on_file: OnFile | None = None

    def fetch(self, result: ResultFiles) -> Iterator[Fetched]:
        """Fetch one result's files, one by one."""
        items = result.files
        check_names([result.folder])
        check_names([item.name for item in items])
        folder = self._folder(self.root, result.folder)
        for item in items:
            yield self._file(item, folder, result.folder)
        if items and all(item.name != MANIFEST for item in items):
            _write_manifest(folder / MANIFEST, result.folder, items)

    def _file(self, item: Download, folder: Path, shown_folder: str) -> Fetched:
        parent, _, name = item.name.rpartition("/")
        path = self._folder(folder, parent) / name
        tell = self._teller(f"{shown_folder}/{item.name}", item.size_bytes)
        how = _state(path, item)
        if how == "kept":
            tell(item.size_bytes)
        else:
            fresh = partial(self._fresh_url, shown_folder, item.name)
            download(item, path, link=self.link, on_progress=tell, refresh_url=fresh)
        return Fetched(path, item.sha256, item.size_bytes, how)

    def _folder(self, base: Path, names: str) -> Path:
        """Make folders below `base`, through no link."""
        path = base
        with foreign_errors(f"{base / names} can't be made"):
            base.mkdir(parents=True, exist_ok=True)
            for name in filter(None, names.split("/")):
                path /= name
                path.mkdir(exist_ok=True)
                if path.is_symlink():
                    raise UnsafeModel(f"{path} is a link; files would be written through it, which is refused.")
        return path

    def _teller(self, shown: str, size_bytes: int) -> Callable[[int], None]:
        on_file = self.on_file
        return lambda received: on_file(shown, received, size_bytes) if on_file is not None else None

    def _fresh_url(self, folder: str, name: str) -> str:
        for result in self.list_files():
            for item in result.files:
                if result.folder == folder and item.name == name:
                    return item.url
        raise NotFound(f"{folder}/{name} is no longer published.")


def download_results(list_files: ListFiles, root: Path, *, on_file: OnFile | None = None) -> list[Fetched]:
    """Fetch every file of every result below `root`.

    Raises:
        DigestMismatch: bytes differ from what was published.
        UnsafeModel: a name would leave its folder.
        HostFull: `root` is full; what arrived stays, to resume from.
    """
    with open_link() as link:
        destination = Destination(root, link, list_files, on_file)
        return [fetched for result in list_files() for fetched in destination.fetch(result)]


def _state(path: Path, item: Download) -> How:
    """Tell what is there already: the file, a part of it, or nothing that counts."""
    is_whole = not path.is_symlink() and path.is_file() and path.stat().st_size == item.size_bytes
    if is_whole and hash_file(path).sha256 == item.sha256:
        return "kept"
    part = part_path(path, item.sha256)
    return "resumed" if part.is_file() and part.stat().st_size > 0 else "downloaded"


def _write_manifest(path: Path, folder: str, items: Sequence[Download]) -> None:
    files: list[dict[str, Any]] = [item.model_dump(exclude={"url"}) for item in items]
    text = json.dumps({"folder": folder, "files": files}, indent=2, ensure_ascii=False)
    with foreign_errors(f"{path} can't be written"):
        path.write_text(text + "\n", encoding="utf-8")
