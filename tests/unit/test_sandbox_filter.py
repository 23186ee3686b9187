"""The system call filter, run by a small interpreter of its own on both architectures."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from workers.sandbox import syscalls
from workers.sandbox.seccomp import Instruction, Policy, program

MACHINES = list(syscalls.ARCHITECTURES)
SELF, OTHER = 4242, 4243
ALLOW, KILL = "allow", "kill"
THREAD_FLAGS = 0x3D0F00
FORK_FLAGS = 0x1200011
NEW_USER = 0x10000000
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def verdict(rules: list[Instruction], machine: str, number: int, *arguments: int, arch: int | None = None) -> str | int:
    """Return "allow", "kill" or the errno that the filter answers a system call with."""
    data = {0: number, 4: arch if arch is not None else syscalls.AUDIT_ARCHITECTURES[machine]}
    data |= {16 + 8 * index: value & 0xFFFFFFFF for index, value in enumerate((*arguments, 0, 0, 0)[:6])}
    at = value = 0
    while True:
        code, true, false, k = rules[at]
        at += 1
        if code == 0x20:
            value = data[k]
        elif code == 0x54:
            value &= k
        elif code == 0x06:
            return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(k, k & 0xFFFF)
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
            at += true if holds else false


class Filter:
    def __init__(self, machine: str, *, spawns: bool = False, only: int | None = SELF, sessions: bool = True) -> None:
        self.machine = machine
        self.numbers = syscalls.numbers(syscalls.ALL, machine)
        self.rules = program(Policy(spawns=spawns, signals_only=only, sessions=sessions), machine)

    def __call__(self, name: str, *arguments: int) -> str | int:
        return verdict(self.rules, self.machine, self.numbers[name], *arguments)


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_everything_on_the_deny_list_is_denied(machine: str) -> None:
    for spawns in (False, True):
        filtered = Filter(machine, spawns=spawns)
        for name in syscalls.numbers(syscalls.ALWAYS_DENIED, machine):
            assert filtered(name) == errno.EPERM, name


def test_ordinary_calls_are_allowed(machine: str) -> None:
    filtered = Filter(machine)
    listed = set(filtered.numbers.values())

    assert all(verdict(filtered.rules, machine, number) == ALLOW for number in range(450) if number not in listed), (
        "an unlisted call is denied"
    )


def test_another_architectures_calls_kill(machine: str) -> None:
    assert verdict(Filter(machine).rules, machine, 1, arch=0x40000003) == KILL


def test_x32_calls_are_denied() -> None:
    assert verdict(Filter("x86_64").rules, "x86_64", 0x40000000 + 59) == errno.EPERM


def test_threads_are_allowed_and_processes_only_for_spawning(machine: str) -> None:
    plain, spawning = Filter(machine), Filter(machine, spawns=True)

    assert (plain("clone", THREAD_FLAGS), spawning("clone", THREAD_FLAGS)) == (ALLOW, ALLOW)
    assert (plain("clone", FORK_FLAGS), spawning("clone", FORK_FLAGS)) == (errno.EPERM, ALLOW)
    assert (plain("execve"), spawning("execve")) == (errno.EPERM, ALLOW)
    assert (plain("clone3"), spawning("clone3")) == (errno.ENOSYS, errno.ENOSYS)


@pytest.mark.parametrize("spawns", [False, True])
def test_no_clone_makes_a_namespace(machine: str, spawns: bool) -> None:
    filtered = Filter(machine, spawns=spawns)

    assert filtered("clone", FORK_FLAGS | NEW_USER) == errno.EPERM
    assert filtered("clone", THREAD_FLAGS | NEW_USER) == errno.EPERM


def test_signals_reach_only_itself(machine: str) -> None:
    filtered = Filter(machine)

    for name in ("kill", "tgkill", "prlimit64"):
        assert (filtered(name, SELF), filtered(name, OTHER), filtered(name, -1)) == (ALLOW, errno.EPERM, errno.EPERM)
    assert (filtered("prlimit64", 0), filtered("kill", 0)) == (ALLOW, errno.EPERM)
    assert Filter(machine, only=None)("kill", OTHER) == ALLOW


def test_no_descriptor_signals_another_process(machine: str) -> None:
    filtered = Filter(machine, spawns=True, only=None)

    assert (filtered("fcntl", 5, 8, OTHER), filtered("fcntl", 5, 15, 0)) == (errno.EPERM, errno.EPERM)
    assert filtered("fcntl", 5, 3) == ALLOW


def test_socket_pairs_are_streams(machine: str) -> None:
    filtered = Filter(machine)
    cloexec = 0o2000000

    assert (filtered("socketpair", 1, 1 | cloexec), filtered("socketpair", 1, 5)) == (ALLOW, ALLOW)
    assert filtered("socketpair", 1, 2 | cloexec) == errno.EPERM


def test_sessions_may_be_left_only_where_a_namespace_holds_the_tree(machine: str) -> None:
    assert Filter(machine, sessions=True)("setsid") == ALLOW
    assert Filter(machine, sessions=False)("setsid") == errno.EPERM


def test_an_unknown_architecture_has_no_filter() -> None:
    with pytest.raises(KeyError):
        program(Policy(spawns=False, signals_only=None, sessions=True), "riscv64")


def test_numbers_agree_with_the_kernels_headers(machine: str) -> None:
    header = HEADERS[machine]
    if not header.is_file():
        pytest.skip(f"{header} is not installed")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))

    ours = syscalls.numbers(syscalls.ALL, machine)

    assert {name: str(number) for name, number in ours.items() if name in known} == {
        name: known[name] for name in ours if name in known
    }
    assert len(set(ours) & set(known)) > 60
