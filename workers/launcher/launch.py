"""A launcher and a worker of a foreign root together: what `farm worker --root` runs."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from farm.domain.errors import ConfigurationError
from farm.settings import settings
from workers.environments.root import WORKER
from workers.host.emulation import VARIABLE as EMULATED
from workers.launcher.enter import SOCKET, Entrance
from workers.launcher.messages import VARIABLE
from workers.launcher.server import Launcher, listen
from workers.sandbox import slots

_WORKER_SLOT = 63
"""The worker's user is one that no step of this process gets."""
_FOLDERS = ("FARM_WORK_DIR", "FARM_CACHE_DIR", "FARM_ENVIRONMENTS_DIR", "FARM_CONFIG", VARIABLE)
_STOP_S = 20.0


def launch(root: Path, profile: str, cpu: str | None = None) -> int:
    """Run a worker within a root until it ends, or this process is told to; return its exit code.

    Raises:
        ConfigurationError: not root, or no root of another architecture.
        IsolationTooWeak: the probes say so.
    """
    if os.geteuid() != 0:
        raise ConfigurationError(
            "Only root can run a worker within a root of another architecture.", remedy="Run it with sudo."
        )
    config = settings()
    uid = slots.user_of(_WORKER_SLOT) or 0
    shared = (config.work_dir.resolve(), config.cache_dir.resolve())
    for folder in shared:
        folder.mkdir(parents=True, exist_ok=True)
        slots.hand_over(folder, uid)
    with launcher(root, cpu, shared) as running, serving(running, running.folder / "socket", uid=uid):
        return _worker(running, ("worker", "--profile", profile), uid)


@contextmanager
def launcher(root: Path, cpu: str | None, shared: Sequence[Path]) -> Iterator[Launcher]:
    """Prove the isolation of a root's steps, and end all of them afterwards."""
    with tempfile.TemporaryDirectory(prefix="farm-launcher-") as folder:
        Path(folder).chmod(0o711)
        running = Launcher(root, cpu=cpu, shared=shared, folder=Path(folder))
        try:
            running.prove()
            yield running
        finally:
            running.close()


@contextmanager
def serving(running: Launcher, path: Path, *, uid: int) -> Iterator[None]:
    """Answer at a socket meanwhile."""
    listener = listen(path, uid=uid)
    thread = threading.Thread(target=running.serve, args=(listener,), name="serve", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        path.unlink(missing_ok=True)


def _worker(running: Launcher, arguments: tuple[str, ...], uid: int) -> int:
    """Start the worker and wait for it; a signal to this process ends it first."""
    entrance = _entrance(running, arguments, uid)
    heard, told = os.pipe()
    with (
        os.fdopen(told, "wb") as pipe,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.launcher.enter", str(heard)],
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=[heard],
            stdin=subprocess.DEVNULL,
        ) as process,
    ):
        os.close(heard)
        pipe.write(entrance.pack())
        pipe.close()
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait(_STOP_S)


def _entrance(running: Launcher, arguments: tuple[str, ...], uid: int) -> Entrance:
    described, config = running.described, settings()
    python = f"{described.environments}/{WORKER}/bin/python3"
    inherited = {name: value for name, value in os.environ.items() if name.startswith("FARM_") and name not in _FOLDERS}
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - its own, within the root
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(running.code[0]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "QEMU_CPU": running.cpu,
        EMULATED: f"qemu-user/{running.cpu}",
        VARIABLE: SOCKET,
        "FARM_WORK_DIR": str(config.work_dir.resolve()),
        "FARM_CACHE_DIR": str(config.cache_dir.resolve()),
        "FARM_ENVIRONMENTS_DIR": described.environments,
    }
    replaced = {"/proc/cpuinfo": str(running.cpuinfo), SOCKET: str(running.folder / "socket")}
    if (running.root / "etc/resolv.conf").exists() and Path("/etc/resolv.conf").exists():
        replaced["/etc/resolv.conf"] = "/etc/resolv.conf"
    return Entrance(
        root=str(running.root),
        command=(
            described.emulator,
            "-cpu",
            running.cpu,
            "-0",
            python,
            python,
            "-P",
            "-m",
            "farm.cli.main",
            *arguments,
        ),
        variables=inherited | variables,
        uid=uid,
        host_name=f"{platform.node()}-{described.architecture}"[:63],
        writable=tuple(map(str, running.shared)),
        readable=tuple(map(str, running.code)),
        replaced=replaced,
    )
