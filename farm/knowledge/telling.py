"""The lines of a log that tell what went wrong, for messages that no entry knows."""

from __future__ import annotations

import re
from collections.abc import Iterator

LINES = 6
LINE_LIMIT = 300
READ_LIMIT = 64_000

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PROGRESS = re.compile(r"\d{1,3}%\s*\||\d+/\d+ \[|[━█▏#=]{8}|\bETA\b|\b\d+(?:\.\d+)?(?:it/s|s/it|[kM]B/s)")
_TELLS = re.compile(
    r"error|exception|fail|fatal|abort|cannot|can't|could not|unsupported|not supported|unknown|invalid|missing"
    r"|not implemented|unexpected|mismatch|not found|no such|refused|terminat|killed|signal|out of|unable",
    re.IGNORECASE,
)
_NO_NEWS = re.compile(
    r"^\s*(?:File \"|Traceback \(most recent|During handling of|The above exception was|warnings?\.warn|[\^~\s]+$)"
    r"|(?:Future|Deprecation|User|Runtime)Warning\b"
)
_FOLDERS = re.compile(r"(?<![\w.:/])(?:/[\w.+@ -]*[\w.+@-])*/(?:run-\d+|out|work|site-packages|lib/python3\.\d+|tmp)/")
_ROOTS = re.compile(r"(?<![\w.:/])/(?:[\w.+@-]+/){2,}(?=[\w.+@-]+)")
_STAMP = re.compile(r"^\s*(?:\[?\d{4}-\d\d-\d\d[T ][\d:.,]+\]?|[IWEF]\d{4} [\d:.]+\s+\d+)\s*")
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


def telling_lines(text: str, *, lines: int = LINES) -> list[str]:
    """Choose the last lines that tell of an error, oldest first; without any, the last lines.

    Terminal escapes, progress bars, frames of tracebacks, lines that were said before (but for numbers) and the
    folders in front of file names are left out.
    """
    cleaned = list(_distinct(_clean(text[-READ_LIMIT:])))
    telling = [line for line in cleaned if _TELLS.search(line)]
    return (telling or cleaned)[-lines:]


def _clean(text: str) -> Iterator[str]:
    for raw in ESCAPES.sub("", text).split("\n"):
        line = CONTROL.sub("", raw.rstrip("\r").rpartition("\r")[2])
        if _PROGRESS.search(line) or _NO_NEWS.search(line):
            continue
        line = _ROOTS.sub("", _FOLDERS.sub("", _STAMP.sub("", line))).strip()
        if line:
            yield line if len(line) <= LINE_LIMIT else f"{line[: LINE_LIMIT - 1]}…"


def _distinct(lines: Iterator[str]) -> Iterator[str]:
    """Drop what was said before, numbers aside."""
    seen: set[str] = set()
    for line in lines:
        shape = _NUMBERS.sub("0", line)
        if shape not in seen:
            seen.add(shape)
            yield line
