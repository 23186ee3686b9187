"""The launcher's side: prove the isolation, then run what connected workers ask for."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from farm import __version__
from farm.domain.codec import canonical, decode
from farm.domain.errors import ConfigurationError, HostError, IsolationTooWeak
from workers import environments
from workers.environments.root import WORKER, Description, describe
from workers.host.nodes import DRIVER_NODES, nodes_of
from workers.launcher.messages import MESSAGE_BYTES, Reply, Wish
from workers.launcher.processors import cpuinfo
from workers.sandbox import cgroup, slots
from workers.sandbox.plain import is_plain, open_plain
from workers.sandbox.pool import Pool
from workers.sandbox.selftest import attempt
from workers.sandbox.values import OF_THE_MACHINE, Call, Ending, Foreign, Level

CODE_ROOT = Path(__file__).parents[2]
_SLOTS = 4
_SHUT_DOWN = (errno.EINVAL, errno.EBADF)
"""What accept() fails with once its socket was shut down, or closed."""
_AGAIN_S = 0.2
_log = logging.getLogger(__name__)


class Launcher:
    """One root, and the folders that its worker shares with its steps."""

    def __init__(self, root: Path, *, cpu: str | None, shared: Sequence[Path], folder: Path) -> None:
        """Prepare; `folder` is private to this launcher and may be entered by all.

        Raises:
            ConfigurationError: no root is there, or the processor is unknown.
        """
        self.root, self.folder = root.resolve(), folder.resolve()
        self.described: Description = describe(self.root)
        self.cpu = cpu or self.described.cpu
        self.shared = tuple(path.resolve() for path in shared)
        self.cpuinfo = self.folder / "cpuinfo"
        self.cpuinfo.write_text(cpuinfo(self.cpu, os.cpu_count() or 1))
        self._pool = Pool(folder=self.folder, code_root=CODE_ROOT, slots=_SLOTS, groups=cgroup.delegated())

    @property
    def code(self) -> tuple[Path, ...]:
        """Name what the worker, too, imports the farm from: links, and the folders they lead to."""
        links = self.folder / "code"
        return (links, *(link.resolve() for link in links.iterdir()))

    @property
    def environments(self) -> Path:
        return Path(self.described.environments)

    def prove(self) -> None:
        """Run the sandbox's probes in an emulated child.

        Raises:
            IsolationTooWeak: one of them succeeded, or the child can't be set up.
        """
        foreign = self._foreign(str(self.environments / WORKER), (self.folder,))
        native = Path(sys.prefix)
        trial = attempt(self._pool, Level.OUTSIDE, folder=self.folder, environment=native, foreign=foreign)
        if not trial.holds:
            raise IsolationTooWeak(
                f"Steps of {self.root} can't be isolated from outside: {'; '.join(trial.reasons)}.",
                remedy="Run the launcher as root, on a kernel with namespaces, landlock and seccomp.",
            )

    def serve(self, listener: socket.socket) -> None:
        """Answer workers until the listener is shut down; what else befalls it, such as no descriptor left, passes."""
        while True:
            try:
                channel, _ = listener.accept()
            except OSError as error:
                if error.errno in _SHUT_DOWN:
                    return
                _log.warning("A worker waits to be answered: %s. It is tried again.", error)
                time.sleep(_AGAIN_S)
                continue
            threading.Thread(target=self._answer, args=(channel,), name="launch", daemon=True).start()

    def close(self) -> None:
        """End every run."""
        self._pool.close()

    def _answer(self, channel: socket.socket) -> None:
        with channel, suppress(ConnectionError):
            message = channel.recv(MESSAGE_BYTES)
            if not message:
                return
            try:
                wish = decode(Wish, json.loads(message))
            except ValueError as error:
                channel.send(canonical(self._reply(_refused(str(error)))))
                return
            channel.send(canonical(self._reply(None if wish.limits is None else self._run(wish, channel))))
            channel.shutdown(socket.SHUT_RDWR)

    def _reply(self, ending: Ending | None) -> Reply:
        folder = Path(f"{self.root}{self.environments}")
        names = {path.name for path in folder.iterdir()} - {WORKER}
        found = {name: environments.installed_digest(folder, name) for name in names}
        return Reply(__version__, {name: digest for name, digest in found.items() if digest}, ending)

    def _run(self, wish: Wish, channel: socket.socket) -> Ending:
        cancel = threading.Event()
        try:
            call = self._call(wish)
            work = open_plain(str(call.work), os.O_RDONLY | os.O_DIRECTORY)
        except (ConfigurationError, OSError) as error:
            return _refused(str(error))
        try:
            threading.Thread(target=_listen, args=(channel, cancel), name="cancel", daemon=True).start()
            ending = self._pool.run(call, Level.OUTSIDE, cancel)
            if os.geteuid() == 0:
                slots.give(work, _peer(channel))
        except OSError as error:
            return _refused(f"its work folder can't be given back: {error}")
        finally:
            os.close(work)
        return ending

    def _call(self, wish: Wish) -> Call:
        """Turn a wish into a call.

        Raises:
            ConfigurationError: it names what the worker does not share, or the root does not have.
        """
        if wish.limits is None:
            raise ConfigurationError("A run needs limits.")
        for path in (wish.environment, wish.work, *wish.readable, *wish.devices):
            check_plain(path)
        if not is_within(self.root, wish.environment) or not os.path.lexists(
            f"{self.root}{wish.environment}/bin/python3"
        ):
            raise ConfigurationError(f"{self.root} has no environment {wish.environment}.")
        work = self._shared(Path(wish.work))
        if work is None:
            raise ConfigurationError(f"{wish.work} is in none of the folders that the launcher was given.")
        check_devices(wish.devices, _accelerators())
        return Call(
            environment=Path(sys.prefix),
            entry=wish.entry,
            work=work,
            readable=tuple(self._readable(path) for path in wish.readable),
            limits=wish.limits,
            fresh=True,
            spawns=wish.spawns,
            cores=wish.cores,
            foreign=self._foreign(wish.environment, self.shared),
            devices=tuple(map(Path, wish.devices)),
        )

    def _readable(self, path: str) -> Path:
        """Give a path that a step may read, as it is once no link is left in it.

        Raises:
            ConfigurationError: it is neither shared, nor in the root, nor the farm's code.
        """
        if (found := self._shared(Path(path)) or self._code(Path(path))) is not None:
            return found
        if is_within(self.root, path):
            return Path(path)
        raise ConfigurationError(f"{path} is neither shared with the launcher nor in its root.")

    def _shared(self, path: Path) -> Path | None:
        """Give the path when it lies in a shared folder, through no link that leads out of it."""
        found = path.resolve()
        return found if any(found.is_relative_to(folder) for folder in self.shared) and found.exists() else None

    def _code(self, path: Path) -> Path | None:
        found = path.resolve()
        return found if any(found.is_relative_to(folder.resolve()) for folder in self.code) else None

    def _foreign(self, environment: str, kept: Sequence[Path]) -> Foreign:
        return Foreign(
            root=str(self.root),
            emulator=self.described.emulator,
            environment=environment,
            cpu=self.cpu,
            cpuinfo=str(self.cpuinfo),
            kept=tuple(map(str, (*kept, *self.code))),
        )


def check_plain(path: str) -> None:
    """See that a path names itself, and nothing above or beside it.

    Raises:
        ConfigurationError: it does not.
    """
    if not is_plain(path):
        raise ConfigurationError(f"{path!r} is refused: a path is absolute, without `..`, `.` or a doubled slash.")


def is_within(root: Path, path: str) -> bool:
    """Tell whether a root has a path of its own: no link of it leads out, and it is not this machine's to show."""
    found = Path(f"{root}{path}")
    hosts = any(path == own or path.startswith(f"{own}/") for own in OF_THE_MACHINE)
    return not hosts and found.exists() and found.resolve() == found


def check_devices(asked: Sequence[str], known: Collection[Path]) -> None:
    """See that a worker asks for nodes of accelerators only.

    Raises:
        ConfigurationError: it asks for another one.
    """
    if stranger := next((path for path in asked if Path(path) not in known), None):
        raise ConfigurationError(f"{stranger} is no node of an accelerator of this machine.")


def _accelerators() -> set[Path]:
    """List the nodes of every accelerator here."""
    found: set[Path] = set()
    for name in DRIVER_NODES:
        with suppress(HostError):
            found |= set(nodes_of(name))
    return found


def listen(path: Path, *, uid: int) -> socket.socket:
    """Open the socket; only `uid` and root may connect."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o600)
    os.chown(path, uid, -1)
    listener.listen()
    return listener


def _listen(channel: socket.socket, cancel: threading.Event) -> None:
    """Cancel on anything the worker says, or on its end."""
    with suppress(OSError):
        channel.recv(MESSAGE_BYTES)
    cancel.set()


def _peer(channel: socket.socket) -> int:
    credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _refused(detail: str) -> Ending:
    return Ending("setup", None, None, 0.0, None, Level.OUTSIDE, detail=detail)
