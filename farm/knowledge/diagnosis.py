"""What a tool's text means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from farm.knowledge.entries import ANY, KnownMessage, families, known_messages

READ_LIMIT = 20_000
"""Characters read at each end of a longer text."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A known message that was found: what it means, and which operator or tensor it names."""

    entry: str
    tool: str
    cause: str
    error: str
    remedy: str
    retry: bool
    source: str
    operator: str | None = None
    tensor: str | None = None


def diagnose(text: str, tool: str | None = None) -> Diagnosis | None:
    """Find the first entry that a text fits; None means that nothing here knows it.

    Args:
        text: a tool's message or log; an exception as `Type: message`.
        tool: a family or a Python package; its entries and those for any tool are asked. None, or a tool without
            entries, asks all.
    """
    shown = text if len(text) <= 2 * READ_LIMIT else f"{text[:READ_LIMIT]}\n{text[-READ_LIMIT:]}"
    for message in _asked(tool):
        if message.pattern is not None and (found := message.pattern.search(shown)):
            named = found.groupdict()
            return Diagnosis(
                entry=message.id,
                tool=message.tool,
                cause=message.cause,
                error=message.error,
                remedy=message.remedy,
                retry=message.retry,
                source=message.source,
                operator=named.get("operator"),
                tensor=named.get("tensor"),
            )
    return None


@cache
def family_of(package: str) -> str | None:
    """Name the family that a Python package, or a family's own name, belongs to."""
    return next((f.tool for f in families() if package == f.tool or package in f.packages), None)


def _asked(tool: str | None) -> Iterator[KnownMessage]:
    family = None if tool is None else family_of(tool.replace("-", "_")) or family_of(tool)
    return (m for m in known_messages() if family is None or m.tool in (ANY, family))
