"""What the compiler's and the runtime's messages mean, from messages.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path


class MessageStage(StrEnum):
    """When a message is said."""

    COMPILE = "compile"
    MAPPING = "mapping"
    RUNTIME = "runtime"


@dataclass(frozen=True, slots=True)
class Message:
    """One known message; without a pattern it is found by `check`, in words."""

    id: str
    stage: MessageStage
    pattern: re.Pattern[str] | None
    check: str | None
    cause: str
    remedy: str
    retry: bool
    source: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A message that was found, with the words it was found by and what these named (operator, version …)."""

    message: Message
    said: str
    named: tuple[str, ...]


@cache
def known_messages() -> tuple[Message, ...]:
    """Return every known message, most specific first."""
    text = Path(__file__).with_name("messages.toml").read_text(encoding="utf-8")
    return tuple(
        Message(
            id=entry["id"],
            stage=MessageStage(entry["stage"]),
            pattern=re.compile(entry["pattern"]) if "pattern" in entry else None,
            check=entry.get("check"),
            cause=entry["cause"],
            remedy=entry["remedy"],
            retry=entry["retry"],
            source=entry["source"],
        )
        for entry in tomllib.loads(text)["message"]
    )


def diagnose(text: str, stages: Collection[MessageStage]) -> tuple[Diagnosis, ...]:
    """Find the known messages of some stages in a tool's output, most specific first."""
    found = []
    for message in known_messages():
        if message.pattern is None or message.stage not in stages:
            continue
        if match := message.pattern.search(text):
            found.append(Diagnosis(message, match[0], match.groups()))
    return tuple(found)
