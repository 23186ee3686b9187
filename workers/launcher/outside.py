"""The worker's side of a launcher: looks like the sandbox, and every run has level `outside`."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from farm import __version__
from farm.domain.codec import canonical
from farm.domain.errors import EnvironmentMissing, IsolationTooWeak
from workers import environments
from workers.launcher.messages import CANCEL, MESSAGE_BYTES, Reply, Wish
from workers.sandbox.values import Call, Ending, Level

_POLL_S = 0.1
_HELLO_S = 30.0
_CANCEL_GRACE_S = 5.0
_SLOT_WAIT_S = 1800.0
"""A run may wait so long for another one's end: the default limit of a stage."""
_SILENCE_S = 90.0
"""The launcher gives a supervisor up a minute after its time; one that says nothing for longer has stopped."""


class Outside:
    """Runs calls through a launcher; thread-safe, since each run has its own connection."""

    level = Level.OUTSIDE

    def __init__(self, path: Path, *, environments_dir: Path) -> None:
        """Greet the launcher.

        Raises:
            IsolationTooWeak: nobody answers there, or its root is not this worker's.
        """
        self._path = path
        self._greet(environments_dir)

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Ending:
        """Run one call to its end, or until `cancel` is set.

        Raises:
            EnvironmentMissing: the environment has no interpreter.
        """
        if not os.path.lexists(call.environment / "bin" / "python3"):
            raise EnvironmentMissing(f"There is no interpreter at {call.environment}.", remedy="Make the root anew.")
        started = time.monotonic()
        try:
            with self._connect() as channel:
                channel.send(canonical(Wish.of(call)))
                reply = self._await(channel, cancel or threading.Event(), call.limits.wall_s)
        except (OSError, ValueError) as error:
            return _lost(f"the launcher at {self._path} is gone: {error}", started)
        return reply.ending or _lost("the launcher gave no ending", started)

    def warm(self, environment: Path, preload: tuple[str, ...] = ()) -> None:
        """Do nothing: an emulated step is always exec'd, which costs a start and an import each time."""

    def _greet(self, environments_dir: Path) -> None:
        try:
            with self._connect() as channel:
                channel.settimeout(_HELLO_S)
                channel.send(canonical(Wish()))
                reply = _read(channel.recv(MESSAGE_BYTES))
        except (OSError, ValueError) as error:
            raise IsolationTooWeak(
                f"No launcher answers at {self._path}: {error}.",
                remedy="Start it on the machine itself: farm worker --profile NAME --root DIR.",
            ) from error
        ours = {name: environments.installed_digest(environments_dir, name) for name in reply.environments}
        if reply.version != __version__ or ours != dict(reply.environments):
            raise IsolationTooWeak(
                f"The launcher at {self._path} (farm {reply.version}) runs steps in a root whose environments are not "
                f"those of this worker (farm {__version__}).",
                remedy="Give the launcher the root, or the unpacked image, that the worker runs in.",
            )

    def _connect(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            channel.connect(str(self._path))
        except OSError:
            channel.close()
            raise
        return channel

    def _await(self, channel: socket.socket, cancel: threading.Event, wall_s: float) -> Reply:
        """Wait for the reply.

        Raises:
            OSError: the launcher is gone, or stays silent: beyond the run's time, or after it was told to cancel.
        """
        channel.settimeout(_POLL_S)
        deadline, told = time.monotonic() + wall_s + _SLOT_WAIT_S + _SILENCE_S, False
        while time.monotonic() < deadline:
            if cancel.is_set() and not told:
                channel.send(CANCEL)
                deadline, told = time.monotonic() + _CANCEL_GRACE_S, True
            try:
                return _read(channel.recv(MESSAGE_BYTES))
            except TimeoutError:
                continue
        raise TimeoutError("it does not answer")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the launcher as it is; every run has closed its connection."""


def _read(message: bytes) -> Reply:
    """Read a reply.

    Raises:
        ConnectionResetError: the launcher closed the connection instead.
        ValueError: it is none.
    """
    if not message:
        raise ConnectionResetError("it closed the connection")
    try:
        told = json.loads(message)
        ending = None if told["ending"] is None else Ending(**{**told["ending"], "level": Level.OUTSIDE})
        return Reply(told["version"], told["environments"], ending)
    except (TypeError, KeyError) as exc:
        raise ValueError(f"its reply can't be read: {exc}") from exc


def _lost(detail: str, started: float) -> Ending:
    return Ending("setup", None, None, time.monotonic() - started, None, Level.OUTSIDE, detail=detail)
