"""Names of files: which ones stay below their folder and show as what they are."""

from __future__ import annotations

from collections.abc import Sequence

from farm.domain.errors import UnsafeModel

_LONGEST_SEGMENT_BYTES = 255


def check_names(names: Sequence[str]) -> None:
    """Refuse names that could leave their folder or hide another.

    Raises:
        UnsafeModel: naming the first such name.
    """
    seen: set[str] = set()
    for name in names:
        if why := _why_unsafe(name):
            raise UnsafeModel(f"The file name {name!r} {why}; it is refused.")
        if name in seen:
            raise UnsafeModel(f"The file name {name!r} comes twice; it is refused.")
        seen.add(name)


def _why_unsafe(name: str) -> str | None:
    segments = name.split("/")
    if name.startswith("/"):
        return "is absolute"
    if ".." in segments:
        return "leaves its folder"
    if "" in segments or "." in segments:
        return "is not in its plain form"
    if "\\" in name or any(not character.isprintable() for character in name):
        return "holds a character that no file name should"
    if any(len(segment.encode("utf-8", "surrogatepass")) > _LONGEST_SEGMENT_BYTES for segment in segments):
        return "is too long"
    return None
