"""Become a program within a foreign root: own mounts, processes and name, this network, and no rights.

`python -m workers.launcher.enter FD` reads an Entrance from a descriptor, so that no secret is seen in a command line.
The root is read-only and may serve several workers at once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from farm.domain.codec import canonical, decode
from workers.sandbox import kernel, paths

SOCKET = "/run/farm/launcher"
_NEW_ROOT = paths.TEMPORARY
_SHOWN = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/opt", "/var")
_PRIVATE = (paths.TEMPORARY, paths.SHARED_MEMORY, "/run")
_PLAIN = kernel.MS_NOSUID | kernel.MS_NODEV


@dataclass(frozen=True, slots=True)
class Entrance:
    """What to become, and where.

    Attributes:
        root: the root's folder.
        command, variables: of the program within.
        uid: the user it becomes.
        host_name: what it sees as its machine's name.
        writable, readable: folders here that lie within at the same path.
        replaced: paths within -> files or sockets here.
    """

    root: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    uid: int
    host_name: str
    writable: tuple[str, ...]
    readable: tuple[str, ...]
    replaced: Mapping[str, str]

    def pack(self) -> bytes:
        return canonical(self)


def enter(entrance: Entrance) -> NoReturn:
    """Start the program as the first process of its own namespace, and end as it ends.

    Raises:
        OSError: a path is missing, or a mount is refused.
    """
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        socket.sethostname(entrance.host_name)
        _new_root(entrance)
        _drop(entrance.uid)
        os.execve(entrance.command[0], entrance.command, dict(entrance.variables))  # noqa: S606 - no shell is wanted
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _new_root(entrance: Entrance) -> None:
    """Compose the root on a tmpfs: its own folders read-only, then what is this machine's."""
    os.umask(0o022)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    shown = {path: _opened(entrance.root + path) for path in _SHOWN if os.path.lexists(entrance.root + path)}
    shown |= {path: _opened(path) for path in ("/sys", *entrance.readable)}
    kept = {path: _opened(path) for path in (*paths.existing(paths.DEVICES), *entrance.writable)}
    replaced = {path: _opened(here) for path, here in entrance.replaced.items()}
    links = {path: Path(entrance.root + path).readlink() for path in shown if Path(entrance.root + path).is_symlink()}
    kernel.mount("tmpfs", _NEW_ROOT, "tmpfs", _PLAIN, "mode=755")
    for path in _PRIVATE:
        Path(_NEW_ROOT + path).mkdir(parents=True, exist_ok=True)
        kernel.mount("tmpfs", _NEW_ROOT + path, "tmpfs", _PLAIN, "mode=1777")
    for path, opened in (shown | kept).items():
        if path in links:
            Path(_NEW_ROOT + path).symlink_to(links[path])
        else:
            _bind(opened, path, writable=path in kept)
    Path(_NEW_ROOT, "proc").mkdir()
    kernel.mount("proc", _NEW_ROOT + "/proc", "proc", _PLAIN | kernel.MS_NOEXEC)
    for path, opened in replaced.items():
        _bind(opened, path, writable=path == SOCKET)
    kernel.pivot_into(_NEW_ROOT)


def _opened(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def _bind(opened: int, path: str, *, writable: bool) -> None:
    target = Path(_NEW_ROOT + path)
    if not target.exists():
        source = Path(f"/proc/self/fd/{opened}")
        (target if source.is_dir() else target.parent).mkdir(parents=True, exist_ok=True)
        if not source.is_dir():
            target.touch()
    kernel.mount(f"/proc/self/fd/{opened}", str(target), None, kernel.MS_BIND | kernel.MS_REC)
    if not writable:
        kernel.make_read_only(str(target))
    os.close(opened)


def _drop(uid: int) -> None:
    """Become an ordinary user for good."""
    kernel.drop_bounding_capabilities()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


def main(descriptor: int) -> NoReturn:
    with os.fdopen(descriptor, "rb") as given:
        entrance = decode(Entrance, json.loads(given.read()))
    enter(entrance)


if __name__ == "__main__":
    main(int(sys.argv[1]))
