"""Environments: locked sets of packages that stages run in.

`NAME.in` says what is wanted, `NAME.lock` what it came to. Keys use the pins of the packages a stage declares; the
lock's digest is what a host attests. Both files may open with headers, one a comment line:

    # python: 3.12                           the interpreter it needs; this one when omitted
    # install: pip --ignore-requires-python  the installer and its flags; uv when omitted (both get --no-deps)
    # disk: 4500 MB                          free space an installation needs
    # compile: --override NAME.overrides     flags for making the lock anew
    # system: numpy                          without a wheel for 32-bit ARM: there Debian's has to be of its version
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
MAIN = ("main", "dev", "worker")
"""Locks of the farm's own process: not environments of stages."""
BENCHES = ("olive",)
"""Locks of what `make bench-quality` is held against: installed by name only."""
MARKER = "farm-lock.sha256"
MB = 1_000_000
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)")
_WANTED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)")
_HEADER = re.compile(r"^# (?P<key>python|install|disk|compile|system): (?P<value>.+)$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an environment's headers ask of its installation."""

    python: str | None = None
    tool: str = "uv"
    flags: tuple[str, ...] = ()
    disk_bytes: int = 500 * MB
    compile_flags: tuple[str, ...] = ()
    system: tuple[str, ...] = ()


def names() -> list[str]:
    """List the environments that stages run in."""
    return sorted(path.stem for path in FOLDER.glob("*.lock") if path.stem not in (*MAIN, *BENCHES))


def lock_path(name: str) -> Path:
    return FOLDER / f"{name}.lock"


@cache
def lock_digest(name: str) -> str:
    return hashlib.sha256(lock_path(name).read_bytes()).hexdigest()


@cache
def pins(name: str) -> dict[str, str]:
    """Read the pinned version of every package, by its normalized name."""
    found = (_PIN.match(line) for line in lock_path(name).read_text().splitlines())
    return {normalized(pin["name"]): pin["version"] for pin in found if pin}


def declared(name: str) -> list[str]:
    """List the packages that NAME.in asks for, by normalized name."""
    found = (_WANTED.match(line) for line in (FOLDER / f"{name}.in").read_text().splitlines())
    return [normalized(package["name"]) for package in found if package]


def wanted(name: str) -> Wanted:
    """Read the headers of NAME.in and NAME.lock; the lock's win."""
    headers: dict[str, str] = {}
    for path in (FOLDER / f"{name}.in", lock_path(name)):
        found = (_HEADER.match(line) for line in path.read_text().splitlines()) if path.is_file() else ()
        headers |= {header["key"]: header["value"].strip() for header in found if header}
    tool, *flags = shlex.split(headers.get("install", "uv"))
    return Wanted(
        python=headers.get("python"),
        tool=tool,
        flags=tuple(flag for flag in flags if flag != "--no-deps"),
        disk_bytes=int(headers.get("disk", "500 MB").removesuffix("MB")) * MB,
        compile_flags=tuple(shlex.split(headers.get("compile", ""))),
        system=tuple(headers.get("system", "").split()),
    )


def installed_digest(folder: Path, name: str) -> str | None:
    """Say from which lock an environment was installed; None when it is not, or not completely."""
    marker = folder / name / MARKER
    return marker.read_text().strip() if marker.is_file() else None


def normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
