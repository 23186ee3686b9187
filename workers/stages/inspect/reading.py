"""Blame the file for whatever a parser throws while reading it."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from farm.domain.errors import ConversionFailed, CorruptModel, FarmBug
from workers.stages.foreign import translate
from workers.stages.wording import plain

DAMAGE: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    AttributeError,
    AssertionError,
    SyntaxError,
    EOFError,
    OSError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What parsers throw on damaged bytes, found by mutating files; memory and exits are left to the harness."""


@contextmanager
def reading(name: str, *others: type[Exception]) -> Iterator[None]:
    """Turn what the parsers of the body throw into the submitter's failure.

    Put nothing but opening and parsing inside: a mistake of ours would be blamed on the file.

    Args:
        name: the file, as the submitter knows it.
        others: exceptions of the library that share no base with Python's.

    Raises:
        CorruptModel: or what the library's table says where it knows better.
    """
    try:
        yield
    except (*DAMAGE, *others) as exc:
        found = translate(exc)
        if not isinstance(found, (ConversionFailed, FarmBug)):
            raise found from exc
        raise CorruptModel(
            f"{name} cannot be read: {plain(f'{type(exc).__name__}: {exc}', limit=500)}",
            remedy="Save the model again and check that the copy is complete.",
        ) from exc
