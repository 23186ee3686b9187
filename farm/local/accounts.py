"""The account that PostgreSQL runs under: never root, and one that reaches its data."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import ConfigurationError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    uid: int
    gid: int
    name: str

    def blocked_at(self, path: Path) -> Path | None:
        """Name the first folder on the way to `path` (as written, then as resolved) that this account may not enter."""
        for way in (path, path.resolve()):
            for folder in reversed([way, *way.parents]):
                if folder.is_dir() and not self._may_enter(folder):
                    return folder
        return None

    def _may_enter(self, folder: Path) -> bool:
        found = folder.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & 0o100)
        return bool(found.st_mode & (0o010 if found.st_gid == self.gid else 0o001))


def unprivileged_account(data: Path) -> Account | None:
    """Pick the account for a server that refuses root; None when we are an ordinary user already.

    Args:
        data: the server's own folder; its owner, when it exists, is the account.

    Raises:
        ConfigurationError: no account reaches it, naming the folder in the way.
    """
    if os.geteuid() != 0:
        return None
    blocked: dict[str, Path] = {}
    for account in _candidates(data):
        barrier = account.blocked_at(data.parent)  # `data` itself belongs to the account
        if barrier is None:
            return account
        blocked[account.name] = barrier
    barrier = next(iter(blocked.values()), data)
    raise ConfigurationError(
        f"PostgreSQL does not run as root, and the account it would run under ({', '.join(blocked) or 'none'}) "
        f"may not enter {barrier}, on the way to its data in {data}.",
        remedy="Choose a data folder that others may enter (`farm up --data DIR`, for example below /var/lib), "
        f"allow it with `chmod o+x {barrier}`, or start the farm as an ordinary user.",
        folder=str(barrier),
    )


def _candidates(data: Path) -> Iterator[Account]:
    if data.exists() and (owner := data.stat().st_uid) != 0:
        yield from _lookup(owner)
        return
    sudo_uid = os.environ.get("SUDO_UID", "")
    if sudo_uid.isdigit() and sudo_uid != "0":
        yield from _lookup(int(sudo_uid))
    for name in CANDIDATES:
        yield from _lookup(name)


def _lookup(key: int | str) -> Iterator[Account]:
    try:
        entry = pwd.getpwuid(key) if isinstance(key, int) else pwd.getpwnam(key)
    except KeyError:
        return
    yield Account(entry.pw_uid, entry.pw_gid, entry.pw_name)
