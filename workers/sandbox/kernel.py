"""The few Linux calls that Python does not wrap, through ctypes."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from typing import NoReturn

libc = ctypes.CDLL(None, use_errno=True)
MACHINE = platform.machine()

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

_MOUNT_SETATTR = 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_EXECVEAT = {"x86_64": 322, "aarch64": 281}
_AT_FDCWD, _AT_RECURSIVE, _AT_EMPTY_PATH = -100, 0x8000, 0x1000
_MADV_COLLAPSE = 25
_CAPABILITY_VERSION_3 = 0x20080522


def checked(result: int, what: str) -> int:
    """Raise OSError with errno's text when a C call returned a negative number."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object, what: str) -> int:
    return checked(int(libc.syscall(ctypes.c_long(number), *arguments)), what)


def prctl(option: int, *values: int) -> None:
    padded = [*values, 0, 0, 0, 0][:4]
    checked(libc.prctl(option, *(ctypes.c_ulong(value) for value in padded)), f"prctl {option}")


def unshare(flags: int) -> None:
    checked(libc.unshare(flags), f"unshare {flags:#x}")


def collapse(start: int, length: int) -> bool:
    """Have the kernel put a stretch of memory into huge pages; tell whether it did."""
    return int(libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_COLLAPSE)) == 0


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind, data)]
    result = libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    checked(result, f"mount {source or ''} on {target}")


def make_read_only(path: str) -> None:
    """Make a bind mount and all mounts below it read-only, without set-id programs and devices."""
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)
    try:
        syscall(
            _MOUNT_SETATTR,
            *(_AT_FDCWD, path.encode(), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))),
            what=f"mount_setattr {path}",
        )
    except OSError as exc:
        if exc.errno != errno.ENOSYS:
            raise
        kept = os.statvfs(path).f_flag & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
        mount(None, path, None, MS_BIND | MS_REMOUNT | flags | kept)


def pivot_into(root: str) -> None:
    """Make `root` the root folder and forget the old one."""
    os.chdir(root)
    syscall(_PIVOT_ROOT[MACHINE], b".", b".", what="pivot_root")
    checked(libc.umount2(b".", MNT_DETACH), "umount of the old root")
    mount(None, "/", None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chdir("/")


def execute(program: int, arguments: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Become the program open at a descriptor, as execveat with an empty path does."""
    texts = [text.encode() for text in arguments]
    settings = [f"{name}={value}".encode() for name, value in variables.items()]
    syscall(
        *(_EXECVEAT[MACHINE], program, b"", _array(texts), _array(settings), _AT_EMPTY_PATH),
        what=f"execute {arguments[0]}",
    )
    raise AssertionError("unreachable")


def _array(texts: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*texts, None)


def drop_bounding_capabilities() -> None:
    """Empty the bounding and ambient sets; without the right to do so there is nothing in them to gain."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as exc:
            if exc.errno == errno.EPERM:
                return
            break
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def drop_capabilities() -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    checked(libc.capset(header, bytes(24)), "capset")
