"""How values read, in the terminal and on pages: one way for each."""

from __future__ import annotations

import unicodedata

_CONTROL = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
UNKNOWN = "–"
IDENTICAL_DB = 200.0
"""Where SQNR is capped: the outputs are the same."""


def plain(text: str, *, keep: str = "", limit: int | None = None) -> str:
    """Make a stranger's text safe to show: control, format and direction characters become visible escapes."""
    shown = "".join(c if c in keep or unicodedata.category(c) not in _CONTROL else _escape(c) for c in text)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def size(size_bytes: float) -> str:
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def milliseconds(time_us: float) -> str:
    """Write microseconds as milliseconds with three significant digits."""
    value = time_us / 1000
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def seconds(time_s: float) -> str:
    if time_s < 120:
        return f"{time_s:.1f} s" if time_s < 10 else f"{time_s:.0f} s"
    minutes = time_s / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} days"


def decibels(value_db: float | None) -> str:
    if value_db is None:
        return UNKNOWN
    return "exact" if value_db >= IDENTICAL_DB else f"{value_db:.1f} dB"


def ratio(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}x"


def score(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"
