"""Durations as people write them."""

from __future__ import annotations

import math
import re

from farm.domain.errors import BadRequest

_UNIT_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|m|min|h|d|w)?")


def parse_duration(given: str | float) -> float:
    """Return seconds of a number of seconds, or of text such as 90s, 15m, 24h, 7d.

    Raises:
        BadRequest: it is neither, or negative.
    """
    if not isinstance(given, str):
        if math.isfinite(given) and given >= 0:
            return float(given)
        raise BadRequest(f"Duration {given!r} is not a number of seconds of 0 or more.")
    found = _DURATION.fullmatch(given.strip().lower())
    if not found:
        raise BadRequest(f"Duration {given!r} is not of the form 90s, 15m, 24h or 7d.")
    return float(found["number"]) * _UNIT_S[found["unit"] or "s"]
