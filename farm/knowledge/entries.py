"""Entries of the knowledge base, read from TOML and checked strictly."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ANY = "any"
"""The family whose entries hold for every tool."""
PHASES = ("compile", "mapping", "runtime")
NAMED_GROUPS = {"operator", "tensor"}
_HEADER = {"tool", "packages", "entry"}
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")


class KnowledgeBroken(ValueError):
    """The knowledge base does not keep its own rules; the message names file, entry and rule."""


@dataclass(frozen=True, slots=True)
class KnownMessage:
    """One message a tool is known to say.

    Attributes:
        pattern: found by search; may name groups `operator` and `tensor`. None when only `check` tells.
        error: a code of farm.domain.errors.
        retry: whether doing the same again can help.
        source: a document or issue, or the tool and version it was provoked with.
        provoked: whether `example` was said by a real run.
        when: for the Edge TPU: of a compilation that failed, of its mapping table, or of the runtime.
    """

    id: str
    tool: str
    cause: str
    error: str
    remedy: str
    retry: bool
    source: str
    pattern: re.Pattern[str] | None = None
    check: str | None = None
    provoked: bool = False
    example: str | None = None
    when: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """The tools that share a file: its name, its Python packages, its entries in order."""

    tool: str
    packages: tuple[str, ...]
    messages: tuple[KnownMessage, ...]


@cache
def families() -> tuple[Family, ...]:
    """Read every file, in the order of their names.

    Raises:
        KnowledgeBroken: a file does not keep the rules.
    """
    found = tuple(read_family(path.read_text(encoding="utf-8"), path.name) for path in sorted(FOLDER.glob("*.toml")))
    _check_across(found)
    return found


@cache
def known_messages() -> tuple[KnownMessage, ...]:
    return tuple(message for family in families() for message in family.messages)


def read_family(text: str, file: str) -> Family:
    """Read one file's text.

    Raises:
        KnowledgeBroken: it is no TOML, a key is unknown, missing or of another type, or an example does not fit.
    """
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise KnowledgeBroken(f"{file} is no TOML: {exc}") from exc
    if set(read) != _HEADER:
        raise KnowledgeBroken(f"{file} has keys {sorted(read)}; it needs {sorted(_HEADER)}.")
    entries = tuple(_entry(each, read["tool"], file) for each in read["entry"])
    return Family(read["tool"], tuple(read["packages"]), entries)


def _entry(given: Mapping[str, Any], tool: str, file: str) -> KnownMessage:
    where = f"{file}: {given.get('id', 'an entry without id')}"
    kinds = {"retry": bool, "provoked": bool}
    allowed = {field.name for field in fields(KnownMessage)} - {"tool"}
    required = {"id", "cause", "error", "remedy", "retry", "source"}
    if unknown := set(given) - allowed:
        raise KnowledgeBroken(f"{where} has unknown keys {sorted(unknown)}; known are {sorted(allowed)}.")
    if missing := required - set(given):
        raise KnowledgeBroken(f"{where} lacks {sorted(missing)}.")
    for key, value in given.items():
        if not isinstance(value, kinds.get(key, str)) or value == "":
            raise KnowledgeBroken(f"{where}: {key} is {value!r}; it must be a {kinds.get(key, str).__name__}.")
    made = KnownMessage(tool=tool, **{**given, "pattern": _compiled(given.get("pattern"), where)})
    if problem := _problem(made):
        raise KnowledgeBroken(f"{where} {problem}.")
    return made


def _compiled(pattern: str | None, where: str) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as exc:
        raise KnowledgeBroken(f"{where} has a pattern that does not compile: {exc}") from exc


def _problem(message: KnownMessage) -> str | None:
    if not _ID.fullmatch(message.id):
        return "has an id that is not made of lower-case words with hyphens"
    if (message.pattern is None) == (message.check is None):
        return "needs either a pattern or a check"
    if message.pattern and (odd := set(message.pattern.groupindex) - NAMED_GROUPS):
        return f"names groups {sorted(odd)}; known are {sorted(NAMED_GROUPS)}"
    if message.provoked and not message.example:
        return "was provoked and has no example"
    if message.provoked and not re.search(r"provoked with [\w-]+ \d", message.source):
        return "was provoked; its source must say with which tool and version"
    if message.example and not (message.pattern and message.pattern.search(message.example)):
        return "has an example that its own pattern does not match"
    if message.when not in (None, *PHASES):
        return f"has when={message.when!r}; known are {', '.join(PHASES)}"
    return None


def _check_across(found: Sequence[Family]) -> None:
    """See that ids are unique, packages belong to one family, and no example is taken by an earlier entry."""
    seen: list[KnownMessage] = []
    for message in (each for family in found for each in family.messages):
        for earlier in seen:
            if earlier.id == message.id:
                raise KnowledgeBroken(f"Two entries are called {message.id}.")
            if message.example and earlier.pattern and earlier.pattern.search(message.example):
                raise KnowledgeBroken(f"The example of {message.id} is taken by {earlier.id}, which stands before it.")
        seen.append(message)
    packages = list(_packages(found))
    if twice := {name for name in packages if packages.count(name) > 1}:
        raise KnowledgeBroken(f"Packages {sorted(twice)} belong to more than one family.")


def _packages(found: Sequence[Family]) -> Iterator[str]:
    for family in found:
        yield from {family.tool, *family.packages}
