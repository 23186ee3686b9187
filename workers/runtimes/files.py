"""Find the file to open in what was submitted: a file, or a folder that holds it."""

from __future__ import annotations

from pathlib import Path

from farm.domain.errors import CorruptModel, MissingFile


def entry_file(path: Path, suffixes: tuple[str, ...]) -> Path:
    """Return `path` itself, or the one file with a suffix of `suffixes` at the top of the folder.

    Raises:
        MissingFile: the folder has no such file.
        CorruptModel: it has several, or the file is empty.
    """
    entry = _only(path, suffixes) if path.is_dir() else path
    if not entry.is_file():
        raise MissingFile(f"{entry.name} is missing.")
    if entry.stat().st_size == 0:
        raise CorruptModel(f"{entry.name} is empty (0 bytes).", remedy="Save the model again and submit the new file.")
    return entry


def _only(folder: Path, suffixes: tuple[str, ...]) -> Path:
    wanted = " or ".join(suffixes)
    found = sorted(file for file in folder.iterdir() if file.suffix in suffixes)
    if not found:
        held = ", ".join(sorted(file.name for file in folder.iterdir())[:10]) or "nothing"
        raise MissingFile(f"The folder {folder.name} holds no {wanted} file; it holds {held}.")
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:10])
        raise CorruptModel(
            f"The folder {folder.name} holds {len(found)} {wanted} files ({names}); one is needed.",
            remedy="Submit one folder per model.",
        )
    return found[0]


def tree_size_bytes(path: Path) -> int:
    """Add up the file, or every file under the folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
