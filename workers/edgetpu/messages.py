"""What the Edge TPU's compiler and runtime say, from farm/knowledge/tpu.toml."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from farm import knowledge
from farm.knowledge import KnownMessage

FAMILY = "edgetpu"


class MessageStage(StrEnum):
    """When a message is said."""

    COMPILE = "compile"
    MAPPING = "mapping"
    RUNTIME = "runtime"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A message that was found, with the words it was found by and what these named (operator, version …)."""

    message: KnownMessage
    said: str
    named: tuple[str, ...]


@cache
def known_messages() -> tuple[KnownMessage, ...]:
    """Return every known message of the Edge TPU, most specific first."""
    return tuple(message for message in knowledge.known_messages() if message.tool == FAMILY)


def diagnose(text: str, stages: Collection[MessageStage]) -> tuple[Diagnosis, ...]:
    """Find every known message of some stages in a tool's output, most specific first."""
    found = []
    for message in known_messages():
        if message.pattern is None or message.when not in stages:
            continue
        if match := message.pattern.search(text):
            found.append(Diagnosis(message, match[0], match.groups()))
    return tuple(found)
