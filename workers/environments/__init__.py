"""Environments: locked sets of packages that stages run in.

`NAME.in` says what is wanted, `NAME.lock` what it came to. Keys use the pins of the packages a stage declares; the
lock's digest is what a host attests.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
MAIN = ("main", "dev")
"""Locks of the farm's own process: not environments of stages."""
MARKER = "farm-lock.sha256"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)")


def names() -> list[str]:
    """List the environments that stages run in."""
    return sorted(path.stem for path in FOLDER.glob("*.lock") if path.stem not in MAIN)


def lock_path(name: str) -> Path:
    return FOLDER / f"{name}.lock"


@cache
def lock_digest(name: str) -> str:
    return hashlib.sha256(lock_path(name).read_bytes()).hexdigest()


@cache
def pins(name: str) -> dict[str, str]:
    """Read the pinned version of every package, by its normalized name."""
    found = (_PIN.match(line) for line in lock_path(name).read_text().splitlines())
    return {pin["name"].lower().replace("_", "-"): pin["version"] for pin in found if pin}


def installed_digest(folder: Path, name: str) -> str | None:
    """Say from which lock an environment was installed; None when it is not, or not completely."""
    marker = folder / name / MARKER
    return marker.read_text().strip() if marker.is_file() else None
