"""The data folder of a stack: where everything lies, its secrets, its format.

DIR/format-version      of this layout; a newer one is refused
DIR/ports.json          chosen once
DIR/secrets.json        generated once (0600)
DIR/stack.json          how to reach the running stack (0600)
DIR/lock                held by the living supervisor
DIR/run/                one record per started part, and what operators hold back
DIR/logs/               one log per part
DIR/postgres/ redis/ s3/ tmp/ work/ cache/
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.errors import ConfigurationError, HostFull

FORMAT_VERSION = 1
MIN_FREE_BYTES = 256 << 20
LONGEST_SOCKET_FOLDER = 85
"""sockaddr_un holds 107 bytes; the longest socket name in the folder, .s.PGSQL.65535, has 15."""

SECRETS = (
    *("postgres", "redis", "redis_worker", "s3_access_key", "s3_secret_key", "s3_internal"),
    *("user_token", "host_token", "flower"),
)


@dataclass(frozen=True, slots=True)
class Folder:
    """Paths below one data folder."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def programs(self) -> Path:
        """Private copies of servers that cannot run where they are installed."""
        return self.root / "programs"

    @property
    def stack_file(self) -> Path:
        return self.root / "stack.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def open(self) -> None:
        """Create what is missing.

        Raises:
            ConfigurationError: made by a newer version, or not a folder we may write.
            HostFull: too little space left.
        """
        with storage_errors(self.root):
            if not self.root.exists():
                self.root.mkdir(parents=True, exist_ok=True)
                self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            self._check_format()
            for path in (self.run, self.programs):
                path.mkdir(exist_ok=True)
                path.chmod(0o711)  # PostgreSQL's account enters them, and lists neither
            for name in ("logs", "redis", "s3", "tmp"):
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
            free_bytes = shutil.disk_usage(self.root).free
        if free_bytes < MIN_FREE_BYTES:
            raise HostFull(
                f"{self.root} has {free_bytes >> 20} MiB left; the embedded stack needs {MIN_FREE_BYTES >> 20} MiB.",
                remedy="Free space there, or choose another folder with `farm up --data DIR`.",
            )

    @contextmanager
    def setting_up(self) -> Iterator[None]:
        """Let one process at a time choose what is chosen once."""
        fd = os.open(self.run / "setup.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _check_format(self) -> None:
        path = self.root / "format-version"
        if not path.exists():
            write_private(path, f"{FORMAT_VERSION}\n")
            return
        found = path.read_text().strip()
        if not found.isdigit() or int(found) > FORMAT_VERSION:
            raise ConfigurationError(
                f"{self.root} has format {found!r}; this farm reads up to {FORMAT_VERSION}.",
                remedy="Use the version of the farm that wrote it, or choose another folder with `farm up --data DIR`.",
            )

    def secrets(self) -> dict[str, str]:
        """Read the generated secrets; make the ones that are missing."""
        path = self.root / "secrets.json"
        known = read_json(path) or {}
        missing = {name: secrets.token_hex(20) for name in SECRETS if name not in known}
        if missing:
            known |= missing
            write_private(path, json.dumps(known, indent=1))
        return known

    def socket_folder(self, uid: int) -> Path:
        """Give `uid` a private folder short enough for sockets: DIR/run/sockets, else one in /tmp, remembered."""
        inside = self.run / "sockets"
        if len(str(inside)) <= LONGEST_SOCKET_FOLDER:
            return _private_folder(inside, uid)
        memory = self.run / "socket-folder"
        if memory.exists() and _is_private(Path(memory.read_text()), uid):
            return Path(memory.read_text())
        made = Path(tempfile.mkdtemp(prefix="farm-", dir="/tmp"))
        write_private(memory, str(made))
        return _private_folder(made, uid)

    def remove_sockets(self) -> None:
        memory = self.run / "socket-folder"
        if memory.exists():
            shutil.rmtree(memory.read_text(), ignore_errors=True)
            memory.unlink()
        shutil.rmtree(self.run / "sockets", ignore_errors=True)


def _private_folder(path: Path, uid: int) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(path, uid, -1)
    return path


def _is_private(path: Path, uid: int) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700 and found.st_uid == uid


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by its owner alone."""
    fd, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    Path(fresh).replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object; None when there is none.

    Raises:
        ConfigurationError: the file is damaged.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as exc:
        raise ConfigurationError(f"{path} is damaged: {exc}.", remedy=f"Restore {path}, or remove it.") from exc
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} is damaged: it holds no object.", remedy=f"Restore {path}, or remove it.")
    return found


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Say which folder failed and what to do about it."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostFull(
                f"No space is left in {folder}.",
                remedy="Free space there, or choose another folder with `farm up --data DIR`.",
            ) from exc
        raise ConfigurationError(
            f"The data folder {folder} cannot be used: {exc.strerror or exc}.",
            remedy="Choose a folder that you may write, with `farm up --data DIR`.",
        ) from exc
