"""The system call filter: a deny list with rules on arguments, as classic BPF.

Source: seccomp(2), linux/filter.h.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass

from workers.sandbox import kernel, syscalls

Instruction = tuple[int, int, int, int]

_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_X32_BIT = 0x40000000
_FILTER_MODE = 2

_NR, _ARCH = 0, 4
_CLONE_NAMESPACES = 0x7E020000
_CLONE_THREAD = 0x00010000
_SOCK_TYPE_MASK, _SOCK_DGRAM = 0xF, 2
_AF_NETLINK = 16
_OF_NETLINK = ("socket", "bind")
_OWNERS = (8, 15)
"""F_SETOWN and F_SETOWN_EX: a pipe could then signal another process."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a child may do beyond the deny list.

    Attributes:
        spawns: fork and exec are allowed.
        signals_only: the one process it may signal; None when namespaces or landlock confine signals.
        sessions: it may leave its session (only where a pid namespace holds its tree together).
        executes: the one descriptor that a program may be run from, whatever else is denied.
        netlink: sockets to the kernel are allowed, and none to anywhere else: libusb does not start without one.
    """

    spawns: bool
    signals_only: int | None
    sessions: bool
    executes: int | None = None
    netlink: bool = False


def _fetch(offset: int) -> Instruction:
    return (0x20, 0, 0, offset)


def _argument(index: int) -> Instruction:
    """Load the low 32 bits of an argument (both architectures are little-endian)."""
    return _fetch(16 + 8 * index)


def _skip_unless_equal(value: int, count: int) -> Instruction:
    return (0x15, 0, count, value)


def _skip_if_equal(value: int, count: int) -> Instruction:
    return (0x15, count, 0, value)


def _skip_if_any_bit(bits: int, count: int) -> Instruction:
    return (0x45, count, 0, bits)


def _skip_unless_any_bit(bits: int, count: int) -> Instruction:
    return (0x45, 0, count, bits)


def _return(value: int) -> Instruction:
    return (0x06, 0, 0, value)


def _deny(number: int, error: int = errno.EPERM) -> list[Instruction]:
    return [_skip_unless_equal(number, 1), _return(_ERRNO | error)]


def _rule(number: int, body: list[Instruction]) -> list[Instruction]:
    """Run `body` for one system call; its last instruction denies, and falling over it allows."""
    return [_skip_unless_equal(number, len(body) + 1), *body, _fetch(_NR)]


def _deny_if_argument(number: int, index: int, values: tuple[int, ...]) -> list[Instruction]:
    rules = []
    for value in values:
        rules += _rule(number, [_argument(index), _skip_unless_equal(value, 1), _return(_ERRNO | errno.EPERM)])
    return rules


def _deny_unless_argument(number: int, index: int, values: tuple[int, ...]) -> list[Instruction]:
    tests = [_skip_if_equal(value, len(values) - place) for place, value in enumerate(values)]
    return _rule(number, [_argument(index), *tests, _return(_ERRNO | errno.EPERM)])


def _architecture(machine: str) -> list[Instruction]:
    known = syscalls.AUDIT_ARCHITECTURES[machine]
    start = [_fetch(_ARCH), _skip_if_equal(known, 1), _return(_KILL_PROCESS), _fetch(_NR)]
    if machine == "x86_64":
        start += [(0x35, 0, 1, _X32_BIT), _return(_ERRNO | errno.EPERM)]
    return start


def _cloning(number: dict[str, int], spawns: bool) -> list[Instruction]:
    """Deny new namespaces, and processes unless they are allowed; clone3 hides its flags, so glibc must use clone."""
    rules = _deny(number["clone3"], errno.ENOSYS)
    deny = _return(_ERRNO | errno.EPERM)
    rules += _rule(number["clone"], [_argument(0), _skip_unless_any_bit(_CLONE_NAMESPACES, 1), deny])
    if not spawns:
        rules += _rule(number["clone"], [_argument(0), _skip_if_any_bit(_CLONE_THREAD, 1), deny])
    return rules


def _signalling(number: dict[str, int], only: int) -> list[Instruction]:
    rules = _deny_unless_argument(number["kill"], 0, (only,))
    rules += _deny_unless_argument(number["tgkill"], 0, (only,))
    return rules + _deny_unless_argument(number["prlimit64"], 0, (0, only))


def _pairing(number: dict[str, int]) -> list[Instruction]:
    """Deny datagram socket pairs: such a socket can still send to any address."""
    masked = (0x54, 0, 0, _SOCK_TYPE_MASK)
    deny = _return(_ERRNO | errno.EPERM)
    return _rule(number["socketpair"], [_argument(1), masked, _skip_unless_equal(_SOCK_DGRAM, 1), deny])


def program(policy: Policy, machine: str) -> list[Instruction]:
    """Return the filter of a policy on an architecture.

    Raises:
        KeyError: an architecture without a table.
    """
    number = syscalls.numbers(syscalls.ALL, machine)
    denied = dict(syscalls.ALWAYS_DENIED)
    if not policy.spawns:
        denied |= syscalls.NEW_PROGRAMS | syscalls.NEW_PROCESSES
    if policy.executes is not None:
        denied.pop("execveat", None)
    if not policy.sessions:
        denied |= syscalls.NEW_SESSIONS
    if policy.netlink:
        denied = {name: value for name, value in denied.items() if name not in _OF_NETLINK}
    rules = _architecture(machine)
    for value in syscalls.numbers(denied, machine).values():
        rules += _deny(value)
    rules += _cloning(number, policy.spawns) + _pairing(number)
    rules += _deny_if_argument(number["fcntl"], 1, _OWNERS)
    if policy.executes is not None and not policy.spawns:
        rules += _deny_unless_argument(number["execveat"], 0, (policy.executes,))
    if policy.netlink:
        rules += _deny_unless_argument(number["socket"], 0, (_AF_NETLINK,))
    if policy.signals_only is not None:
        rules += _signalling(number, policy.signals_only)
    return [*rules, _return(_ALLOW)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(policy: Policy) -> None:
    """Filter this process and all it starts, for good. Needs no_new_privs.

    Raises:
        OSError: the kernel has no seccomp filters.
    """
    load(program(policy, kernel.MACHINE))


def load(rules: list[Instruction]) -> None:
    buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    loaded = _Program(len(rules), ctypes.cast(buffer, ctypes.c_void_p))
    result = kernel.libc.prctl(
        kernel.PR_SET_SECCOMP, ctypes.c_ulong(_FILTER_MODE), ctypes.byref(loaded), ctypes.c_ulong(0), ctypes.c_ulong(0)
    )
    kernel.checked(result, "seccomp filter")
