"""The worker's side of a zygote: start it, hand it jobs, end it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from farm.domain.errors import EnvironmentMissing
from workers.sandbox.environment import zygote_environment
from workers.sandbox.job import MESSAGE_BYTES, Job, pack

START_S = 180.0
_STOP_S = 2.0


class ZygoteFailed(Exception):
    """The zygote did not start, or is gone; the text says why."""


def _home(folder: Path) -> Path:
    """Return a home folder for what toolchains write at import; no child reads it."""
    home = folder.absolute() / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


class Zygote:
    """One running zygote; several threads may submit at once."""

    def __init__(self, environment: Path, preload: tuple[str, ...], *, import_root: Path, folder: Path) -> None:
        """Start the interpreter; `await_import` says when it is of use.

        Raises:
            EnvironmentMissing: no interpreter there.
        """
        python = environment / "bin" / "python3"
        if not os.access(python, os.X_OK):
            raise EnvironmentMissing(
                f"There is no interpreter at {python}.", remedy="Install the environment: `make environments`."
            )
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        with theirs, tempfile.NamedTemporaryFile(dir=folder, prefix="zygote-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self._process = subprocess.Popen(
                [str(python), "-P", "-m", "workers.sandbox.zygote", str(theirs.fileno()), *preload],
                env=zygote_environment(environment, import_root=import_root, home=_home(folder)),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def submit(self, job: Job) -> socket.socket:
        """Hand over a job and return the socket its supervisor answers on.

        Raises:
            ZygoteFailed: the zygote is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self._control, [pack(job)], [theirs.fileno()])
            except OSError as exc:
                ours.close()
                raise ZygoteFailed(f"the zygote took no job: {exc}") from exc
        return ours

    def await_import(self) -> None:
        """Wait until the zygote has imported what it should.

        Raises:
            ZygoteFailed: an import failed, took too long, or left threads that a fork would not survive.
        """
        self._control.settimeout(START_S)
        try:
            message = self._control.recv(MESSAGE_BYTES)
        except OSError:
            message = b""
        else:
            self._control.settimeout(None)
        surplus = json.loads(message)["threads"] if message else []
        if message and not surplus:
            return
        words = self._last_words()
        if surplus:
            raise ZygoteFailed(f"the zygote's imports left threads and it must not fork: {', '.join(surplus)}")
        raise ZygoteFailed(f"the zygote did not start: {words or 'no output'}")

    def close(self) -> None:
        """End the zygote, from whatever thread; supervisors notice and take their runs down."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._control.close()
        self._log.unlink(missing_ok=True)

    def _last_words(self) -> str:
        """End the process, let it finish its sentence, and return what it printed."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        words = self._log.read_text(errors="replace")[-1500:].strip() if self._log.exists() else "it was closed"
        self._process.kill()
        self.close()
        return words
