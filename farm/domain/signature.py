"""What makes two failures the same one: code, operator and message, without what differs from run to run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from farm.domain.errors import Failure, ToolCrashed, ToolOutOfDisk, ToolOutOfMemory, ToolTimedOut

NEUTRAL_NAME = "t0"
LONGEST = 200
"""Characters of a normalized message that are compared: what follows tends to list the model's tensors."""

_FIXED = {
    ToolTimedOut.code: "timed out",
    ToolOutOfMemory.code: "out of memory",
    ToolOutOfDisk.code: "out of disk",
}
_PLACE = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:\.{0,2}/[\w.@+-]+){2,}/?")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+\b")
_NUMBER = re.compile(r"(?<![A-Za-z0-9_])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?(?![A-Za-z0-9_])")
_DIGITS = re.compile(r"\d+")
_REPEATED = re.compile(r"((?:[\w./:]*#[\w./:]*))(?:[\s,;x*]+\1)+(?![\w.])")
_TUPLE = re.compile(r"#,(?=[\])])")


@dataclass(frozen=True, slots=True)
class Signature:
    """A failure's identity. `operator` is the one the tool named, `message` is normalized."""

    code: str
    operator: str | None
    message: str

    def __str__(self) -> str:
        at = f" at {self.operator}" if self.operator else ""
        return f"{self.code}{at}: {self.message}"


def signature_of(failure: Failure) -> Signature:
    """Identify a failure: a crash by its signal, an exceeded limit by which one, all others by what was said."""
    if failure.code == ToolCrashed.code:
        return Signature(failure.code, None, str(failure.evidence.get("signal") or "unknown signal"))
    if failure.code in _FIXED:
        return Signature(failure.code, None, _FIXED[failure.code])
    operator = failure.evidence.get("operator")
    return Signature(failure.code, str(operator) if operator else None, normalized(failure.message))


def normalized(message: str) -> str:
    """Take numbers, addresses and places out of a message; lists of them count as one, whatever their length.

    Digits within words go too: toolchains number what they make ("Relu_12", "t3_prequantized").
    """
    text = _PLACE.sub("<path>", message)
    text = _ADDRESS.sub("#", text)
    text = _NUMBER.sub("#", text)
    text = _DIGITS.sub("#", text)
    text = " ".join(text.split())
    text = _REPEATED.sub(r"\1", text)
    text = _TUPLE.sub("#", text)
    return text[:LONGEST].rstrip()


def without_names(message: str, names: Iterable[str]) -> str:
    """Replace a model's own names, the longest first, by the one that neutral models use."""
    present = sorted({name for name in names if name and name in message}, key=lambda name: (-len(name), name))
    if not present:
        return message
    either = "|".join(map(re.escape, present))
    return re.sub(rf"(?<![A-Za-z0-9])(?:{either})(?![A-Za-z0-9])", NEUTRAL_NAME, message)
