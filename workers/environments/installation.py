"""Install environments from their locks: all of it or nothing, one at a time, told apart by the lock's digest."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import ConfigurationError, EnvironmentMissing
from workers import environments
from workers.environments import MARKER, MB, Wanted, installed_digest, lock_digest, lock_path, tools

PROJECT = environments.FOLDER.parents[1]
OWN_DISK_BYTES = 900 * MB
WITHOUT_WHEELS = ("armv7l", "armv8l")
"""Machines for which packages of the header `system` have no wheel."""
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation came to; `seconds` is 0 when nothing was to do."""

    name: str
    path: str
    packages: int
    seconds: float


def install(into: Path, name: str) -> Installed:
    """Make one environment exactly what its lock says; one that is already so is left alone.

    Raises:
        ConfigurationError: too little disk, or the installer failed.
        EnvironmentMissing: the interpreter it needs, or uv, is not on this machine.
    """
    folder, started = into / name, time.monotonic()
    with _alone(into, name):
        if installed_digest(into, name) == lock_digest(name):
            return Installed(name, str(folder), len(environments.pins(name)), 0.0)
        wanted = environments.wanted(name)
        need_disk(into, wanted.disk_bytes, what=f"environment {name}")
        python = interpreter(wanted.python, name)
        (folder / MARKER).unlink(missing_ok=True)
        flags = ["--system-site-packages"] if _system(wanted) else []
        tools.call([python, "-m", "venv", "--without-pip", "--clear", *flags, str(folder)], purpose=f"create {folder}")
        tools.call(command(folder, name, wanted), purpose=f"install {name}", env=tools.surroundings())
        _check_system(folder, name, wanted)
        mark(folder / MARKER, lock_digest(name))
    return Installed(name, str(folder), len(environments.pins(name)), time.monotonic() - started)


def install_all(into: Path, chosen: Sequence[str]) -> list[Installed]:
    """Install several, two at a time, the largest first: while one waits for its downloads, another unpacks.

    Raises:
        ConfigurationError: one of them failed; the others are installed all the same.
    """
    largest_first = sorted(chosen, key=lambda name: -environments.wanted(name).disk_bytes)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        doing = {name: pool.submit(install, into, name) for name in largest_first}
    return [doing[name].result() for name in chosen]


def install_own(lock: str) -> Installed:
    """Install a lock and the project itself, editable, into the environment that this interpreter belongs to.

    Raises:
        ConfigurationError: too little disk, or the installer failed.
    """
    prefix, started = Path(sys.prefix), time.monotonic()
    digest = own_digest(lock)
    with _alone(prefix, "own"):
        packages = len(environments.pins(lock)) + 1
        if (prefix / MARKER).is_file() and (prefix / MARKER).read_text().strip() == digest:
            return Installed(lock, str(prefix), packages, 0.0)
        need_disk(prefix, OWN_DISK_BYTES, what="the farm itself")
        (prefix / MARKER).unlink(missing_ok=True)
        install_into = (*_uv_install(Path(sys.executable)), "-r", str(lock_path(lock)), "--editable", str(PROJECT))
        tools.call(install_into, purpose="install the farm", env=tools.surroundings())
        mark(prefix / MARKER, digest)
    return Installed(lock, str(prefix), packages, time.monotonic() - started)


def own_digest(lock: str) -> str:
    """Identify what the farm's own environment is made from: its lock, and how the project is built."""
    sources = (lock_path(lock), PROJECT / "pyproject.toml", environments.FOLDER / "main.in")
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def command(folder: Path, name: str, wanted: Wanted) -> list[str]:
    """Say how an environment is installed: without dependency resolution, since the lock is complete.

    Raises:
        ConfigurationError: the lock asks for an installer that is not known here.
    """
    python, lock = folder / "bin" / "python", ["-r", str(lock_path(name))]
    if left_out := _system(wanted):
        lock = [f"{pin}=={version}" for pin, version in environments.pins(name).items() if pin not in left_out]
    if wanted.tool == "uv":
        return [*_uv_install(python), *wanted.flags, *lock]
    if wanted.tool == "pip":
        return tools.pip("--python", str(python), "install", "--quiet", "--no-deps", *wanted.flags, *lock)
    raise ConfigurationError(
        f"{lock_path(name).name} asks for installer {wanted.tool!r}; known are uv and pip.",
        remedy="Write `# install: pip FLAGS…` or `# install: uv FLAGS…` into it.",
    )


def _system(wanted: Wanted) -> tuple[str, ...]:
    """Name the packages that are the system's on this machine."""
    return wanted.system if platform.machine() in WITHOUT_WHEELS else ()


def _check_system(folder: Path, name: str, wanted: Wanted) -> None:
    """See that the system's packages are of the lock's versions.

    Raises:
        EnvironmentMissing: one is not installed, or of another version.
    """
    for package in _system(wanted):
        code = f"from importlib.metadata import version; print(version({package!r}))"
        found = tools.call([str(folder / "bin" / "python"), "-c", code], purpose=f"find the system's {package}").strip()
        if found != environments.pins(name)[package]:
            raise EnvironmentMissing(
                f"Environment {name} needs {package} {environments.pins(name)[package]}; this system's is {found}.",
                remedy=f"Install that version (Debian 12: apt install python3-{package}), or make the lock anew.",
            )


def interpreter(version: str | None, name: str) -> str:
    """Find the interpreter of a version, X.Y; this one when the environment asks for none.

    Raises:
        EnvironmentMissing: it is not on PATH.
    """
    if version is None or version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        raise EnvironmentMissing(
            f"Environment {name} needs Python {version}, and there is no python{version} on PATH.",
            remedy=f"Install Python {version} with its venv module, or leave {name} out: other routes then take over.",
        )
    return found


def need_disk(at: Path, need_bytes: int, *, what: str) -> None:
    """Refuse to begin what would not fit.

    Raises:
        ConfigurationError: less is free than is needed.
    """
    free = shutil.disk_usage(next(path for path in (at.absolute(), *at.absolute().parents) if path.exists())).free
    if free < need_bytes:
        raise ConfigurationError(
            f"Installing {what} needs {need_bytes / MB:,.0f} MB, and {free / MB:,.0f} MB are free at {at}.",
            remedy="Free space there, or install elsewhere with --into (then set FARM_ENVIRONMENTS_DIR).",
        )


def mark(marker: Path, digest: str) -> None:
    """Write a marker that is there whole or not at all."""
    partial = marker.with_suffix(".partial")
    partial.write_text(digest + "\n")
    partial.replace(marker)


def _uv_install(python: Path) -> list[str]:
    """Compile at once, as pip does: sandboxed imports can't keep what they compile."""
    if importlib.util.find_spec("uv") is None:
        raise EnvironmentMissing(f"{sys.executable} has no uv.", remedy="Run `make setup`, which installs it.")
    return tools.uv("pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python", str(python))


@contextmanager
def _alone(into: Path, name: str) -> Iterator[None]:
    """Hold the lock of one environment; another process that installs it is waited for."""
    try:
        into.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(into / f".{name}.install.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise ConfigurationError(
            f"Cannot write in {into}: {exc.strerror}.", remedy="Choose a folder of your own with --into."
        ) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
