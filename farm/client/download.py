"""Fetch results into folders: nothing twice, nothing unverified."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from farm.domain.errors import DigestMismatch, HostFull, NotFound
from farm.transfer import download, hash_file
from farm.wire.jobs import ResultFiles
from farm.wire.transfers import Download

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file of a result on this machine, and how it came there."""

    path: Path
    sha256: str
    size_bytes: int
    how: Literal["downloaded", "kept", "resumed"]


OnFile = Callable[[str, int, int], None]
"""Called with folder/name, the bytes that are here so far and the file's size."""
ListFiles = Callable[[], Sequence[ResultFiles]]


def download_results(list_files: ListFiles, root: Path, *, on_file: OnFile | None = None) -> list[Fetched]:
    """Fetch every file of every result below `root`.

    Args:
        list_files: asks the farm for the files; asked again when a presigned URL has run out.

    Raises:
        DigestMismatch: bytes differ from what was published, or a name would leave its folder.
        HostFull: `root` can't be written.
    """
    results = list_files()
    try:
        return [fetched for result in results for fetched in _result(result, list_files, root, on_file)]
    except OSError as exc:
        raise HostFull(
            f"{exc.filename or root} can't be written: {exc.strerror or exc}.",
            remedy="Free space or choose another folder with --to, then run the same command again: it resumes.",
        ) from exc


def _result(result: ResultFiles, list_files: ListFiles, root: Path, on_file: OnFile | None) -> list[Fetched]:
    folder = inside(root, result.folder)
    items = [Download.model_validate(item) for item in result.files]
    fetched = [_file(item, folder, _Refresh(list_files, result.folder, item.name), on_file) for item in items]
    if all(item.name != MANIFEST for item in items):
        _write_manifest(folder / MANIFEST, result.folder, items)
    return fetched


def _file(item: Download, folder: Path, refresh: _Refresh, on_file: OnFile | None) -> Fetched:
    path = inside(folder, item.name)
    shown = f"{refresh.folder}/{item.name}"
    if path.is_file() and path.stat().st_size == item.size_bytes and hash_file(path).sha256 == item.sha256:
        if on_file is not None:
            on_file(shown, item.size_bytes, item.size_bytes)
        return Fetched(path, item.sha256, item.size_bytes, "kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    how: Literal["downloaded", "resumed"] = "resumed" if _is_begun(path) else "downloaded"
    progress = None if on_file is None else lambda received: on_file(shown, received, item.size_bytes)
    download(item, path, on_progress=progress, refresh_url=refresh)
    return Fetched(path, item.sha256, item.size_bytes, how)


@dataclass(frozen=True, slots=True)
class _Refresh:
    """Asks for a new URL of one file."""

    list_files: ListFiles
    folder: str
    name: str

    def __call__(self) -> str:
        for result in self.list_files():
            for item in result.files:
                if result.folder == self.folder and item["name"] == self.name:
                    return str(item["url"])
        raise NotFound(f"{self.folder}/{self.name} is no longer published.")


def inside(root: Path, name: str) -> Path:
    """Return the path of a relative POSIX name below `root`.

    Raises:
        DigestMismatch: the name is absolute, climbs, or follows a link out of `root`.
    """
    pure = PurePosixPath(name)
    path = root.joinpath(*pure.parts)
    climbs = pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not pure.parts
    if climbs or not path.resolve().is_relative_to(root.resolve()):
        raise DigestMismatch(f"The farm names a file {name!r}, which would lie outside {str(root)!r}; it is refused.")
    return path


def _is_begun(path: Path) -> bool:
    return any(path.parent.glob(f"{path.name}.part*"))


def _write_manifest(path: Path, folder: str, items: Sequence[Download]) -> None:
    files: list[dict[str, Any]] = [item.model_dump(exclude={"url"}) for item in items]
    text = json.dumps({"folder": folder, "files": files}, indent=2, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
