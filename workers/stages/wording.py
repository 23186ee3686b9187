"""Text that came from a model or a tool, made safe to store and show."""

from __future__ import annotations

from typing import Any

from farm.knowledge.telling import CONTROL, ESCAPES

LIMIT = 2000


def plain(text: str, *, limit: int = LIMIT) -> str:
    """Drop terminal escapes, control and direction characters (newline and tab stay); cut the middle past `limit`."""
    clean = CONTROL.sub("", ESCAPES.sub("", text)).strip()
    if len(clean) <= limit:
        return clean
    head = limit * 2 // 3
    return f"{clean[:head]} […] {clean[-(limit - head) :]}"


def plain_json(value: Any) -> Any:
    """Apply `plain` to every string of a JSON value; what is not JSON becomes its text."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return plain(str(value))
