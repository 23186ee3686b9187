"""What a toolchain's exception means: frames name the library, farm.knowledge what its message stands for."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from farm.domain.errors import ConversionFailed, FarmBug, FarmError, ToolOutOfDisk
from farm.knowledge import ANY, Diagnosis, diagnose, family_of, telling_lines
from workers.stages.wording import plain

OURS = tuple(str(Path(__file__).parents[2] / name) for name in ("farm", "workers"))
OWN_PACKAGES = ("farm", "workers")
TEXT_LIMIT = 40_000
UNKNOWN = "unknown"
"""Stands for the entry's name in the evidence of a message that no entry knows."""


def translate(exc: BaseException, *, during: str | None = None) -> FarmError:
    """Say what a foreign exception means; FarmError passes through.

    `during` is the tool that was called, asked about after the libraries that the frames name. The evidence names the
    knowledge base's entry as `knowledge`, with the operator and tensor that the message names; when it is unknown,
    `telling` holds the message's telling lines.
    """
    if isinstance(exc, FarmError):
        return exc
    text = plain(f"{type(exc).__name__}: {exc}", limit=TEXT_LIMIT)
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return ToolOutOfDisk(f"The stage filled its disk budget: {plain(text)}")
    libraries = list(_libraries(exc))
    tool = libraries[0] if libraries else None
    found = meaning_of(text, libraries) or (diagnose(text, during) if during else None)
    if found is not None:
        return FarmError.by_code[found.error](plain(text), remedy=found.remedy, tool=tool, **known(found))
    if _is_ours(exc, libraries):
        return FarmBug(plain(text), traceback=plain("".join(traceback.format_exception(exc)), limit=8000))
    return ConversionFailed(plain(text), tool=tool, knowledge=UNKNOWN, telling=telling_lines(text))


def meaning_of(text: str, libraries: list[str]) -> Diagnosis | None:
    """Ask the knowledge base about each library in turn, then about what any tool may say."""
    families = dict.fromkeys(family for name in libraries if (family := family_of(name)))
    return next((found for family in (*families, ANY) if (found := diagnose(text, family))), None)


def known(found: Diagnosis) -> dict[str, Any]:
    """Write a diagnosis as evidence."""
    named = {"operator": found.operator, "tensor": found.tensor}
    return {"knowledge": found.entry, "cause": found.cause, **{key: name for key, name in named.items() if name}}


def _libraries(exc: BaseException) -> Iterator[str]:
    """Name the packages an exception belongs to: of its class first, then of its frames, innermost first."""
    yield from (name for kind in type(exc).__mro__ if _is_tool(name := kind.__module__.partition(".")[0]))
    for frame, _ in reversed(list(traceback.walk_tb(exc.__traceback__))):
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if _is_tool(name):
            yield name


def _is_tool(package: str) -> bool:
    return package not in OWN_PACKAGES and family_of(package) is not None


def _is_ours(exc: BaseException, libraries: list[str]) -> bool:
    """Tell whether our own code is to blame: the innermost frame that is no library's general service is ours."""
    if type(exc).__module__.partition(".")[0] in libraries:
        return False
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(exc.__traceback__) if not _serves_all(frame)]
    return not frames or frames[-1].startswith(OURS)


def _serves_all(frame: FrameType) -> bool:
    """Pass over the standard library and NumPy, whose errors are their caller's."""
    name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return name == "numpy" or (name != "__main__" and name in sys.stdlib_module_names)
