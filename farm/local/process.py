"""Processes: started in a session of their own, recognised later, stopped without hitting a stranger."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from farm.local.accounts import Account

DEAD_STATES = "ZX"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What tells a process from a later one with the same pid.

    Attributes:
        start_ticks: clock ticks between boot and start.
        boot: the kernel's boot id; pids of another boot mean nothing.
    """

    pid: int
    start_ticks: int
    boot: str

    def is_alive(self) -> bool:
        return identify(self.pid) == self


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """Look a living process up in /proc; a zombie is dead."""
    found = _read_stat(pid)
    return found and ProcessIdentity(pid, found.start_ticks, boot_id())


class _Stat(NamedTuple):
    parent: int
    session: int
    start_ticks: int


def _read_stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in DEAD_STATES else _Stat(int(fields[1]), int(fields[3]), int(fields[19]))


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def session_members(session: int) -> list[int]:
    """List the living processes of a session. Its number is not reused while one of them lives."""
    return [pid for pid in _pids() if (found := _read_stat(pid)) and found.session == session]


def marked_outside(mark: str, roots: Collection[int]) -> list[ProcessIdentity]:
    """Find processes whose environment holds the entry `mark` (NAME=value) and that descend from none of `roots`."""
    parents = {pid: found.parent for pid in _pids() if (found := _read_stat(pid))}
    marked = [pid for pid in parents if _holds(pid, mark)]
    strays = (identify(pid) for pid in marked if not _descends(pid, roots, parents))
    return [identity for identity in strays if identity]


def _descends(pid: int, roots: Collection[int], parents: Mapping[int, int]) -> bool:
    while pid and pid not in roots:
        pid = parents.get(pid, 0)
    return pid in roots


def kill_in_folder(folder: Path) -> None:
    """Kill the processes that work in `folder`, and wait until they are gone."""
    for pid in _pids():
        identity = identify(pid)
        if identity and _works_in(pid, folder):
            ask(identity, signal.SIGKILL)
            wait_end(identity, 10.0)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def _holds(pid: int, mark: str) -> bool:
    try:
        return os.fsencode(mark) in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a process."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    cwd: Path
    account: Account | None = None


def spawn(command: Command) -> ProcessIdentity:
    """Start a process in a session of its own; its output goes to the log."""
    account = command.account
    with command.log.open("ab") as log:
        child = subprocess.Popen(
            list(command.argv),
            env=dict(command.environment),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    child.returncode = 0  # the pidfd tells when it ends; Popen's own bookkeeping would warn
    return identify(child.pid) or ProcessIdentity(child.pid, 0, boot_id())


def wait_end(identity: ProcessIdentity, timeout_s: float) -> bool:
    """Wait until the process is gone; reap it when it is our child."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return True
    try:
        if not identity.is_alive():
            return True
        ended = bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)
        reap(identity.pid)
    return ended


def reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def ask(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Signal a process unless it is gone; a stranger with its pid is left alone."""
    if identity.is_alive():
        _signal(identity.pid, number)


def finish(identity: ProcessIdentity, *, within_s: float) -> None:
    """Wait for a process that was asked to end; kill it when it does not, with whatever it left in its session."""
    if not wait_end(identity, within_s):
        ask(identity, signal.SIGKILL)
        wait_end(identity, 10.0)
    reap(identity.pid)
    end_session(identity)


def end_session(identity: ProcessIdentity) -> None:
    """Kill what a dead leader left behind."""
    if identity.boot != boot_id() or identify(identity.pid) is not None:
        return
    deadline = time.monotonic() + 5.0
    while (left := session_members(identity.pid)) and time.monotonic() < deadline:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.01)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
