"""Landlock: which paths may be read and written, no TCP, no signals or abstract sockets to the outside.

Source: landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from workers.sandbox import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FIRST_ABI_RIGHTS = (1 << 13) - 1
_ALL_TCP = 3
_ALL_SCOPES = 3

SINCE = {2: "links between folders", 3: "truncation", 4: "TCP", 5: "device ioctls", 6: "signals and abstract sockets"}
"""ABI -> what landlock confines from it on; below it, seccomp and file permissions have to."""


def abi() -> int:
    """Return the kernel's landlock ABI; 0 when it has none."""
    return max(int(kernel.libc.syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), _VERSION_FLAG)), 0)


def lacking() -> tuple[str, ...]:
    """Say what this kernel's landlock does not confine."""
    version = abi()
    if version == 0:
        return ("landlock",)
    return tuple(f"landlock for {what} (ABI {abi}, here {version})" for abi, what in SINCE.items() if version < abi)


def scopes_signals(version: int) -> bool:
    return version >= 6


def _handled(version: int) -> int:
    rights = _FIRST_ABI_RIGHTS
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEVICE)):
        rights |= right if version >= since else 0
    return rights


def _ruleset(version: int) -> int:
    attributes = struct.pack("QQQ", _handled(version), _ALL_TCP, _ALL_SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    return kernel.syscall(_CREATE, attributes, ctypes.c_size_t(size), 0, what="landlock_create_ruleset")


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Allow `rights` beneath a path."""
    opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= _OF_FILES
        kernel.syscall(
            *(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0),
            what=f"landlock rule for {path}",
        )
    finally:
        os.close(opened)


def restrict(
    *, readable: Iterable[str], writable: Iterable[str], devices: Iterable[str], controlled: Iterable[str] = ()
) -> None:
    """Confine this process and all it starts, for good. Needs no_new_privs.

    `devices` may be read and written; `controlled` ones, or folders of them, take ioctls too.

    Raises:
        OSError: the kernel has no landlock, or a path does not exist or may not be opened.
    """
    version = abi()
    ruleset = _ruleset(version)
    handled = _handled(version)
    for path in readable:
        _allow(ruleset, path, _READ & handled)
    for path in writable:
        _allow(ruleset, path, handled & ~_EXECUTE)
    for path in devices:
        _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
    for path in controlled:
        _allow(ruleset, path, (_READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL_DEVICE) & handled)
    kernel.syscall(_RESTRICT, ruleset, 0, what="landlock_restrict_self")
    os.close(ruleset)
