"""The worker's talk with the supervisor of one run."""

from __future__ import annotations

import socket
import threading
import time

from workers.sandbox import cgroup, processes
from workers.sandbox.job import MESSAGE_BYTES, Job, Observed, setup_failed, unpack_observed

_POLL_S = 0.05
_CANCEL_GRACE_S = 1.0
_SILENCE_S = 60.0
"""A supervisor that says nothing so long after its time is taken for dead."""


class Conversation:
    """Listen until the verdict; pass cancelling on; clean up when the supervisor falls silent."""

    def __init__(self, channel: socket.socket, job: Job) -> None:
        self._channel = channel
        self._job = job
        self._supervisor: int | None = None
        channel.settimeout(_POLL_S)

    def until_end(self, cancel: threading.Event) -> Observed:
        deadline = time.monotonic() + self._job.limits.wall_s + _SILENCE_S
        cancelled = False
        while time.monotonic() < deadline:
            observed = self._next()
            if observed is not None:
                return observed
            if cancel.is_set() and not cancelled:
                cancelled = True
                deadline = time.monotonic() + _CANCEL_GRACE_S
                self._ask_to_stop()
        lost = self._lost()
        return Observed("cancelled", detail="the supervisor did not answer and was killed") if cancelled else lost

    def _next(self) -> Observed | None:
        """Wait a moment for the next message; a reset says only that our own went unread, and what was sent is kept."""
        try:
            return self._heard(self._channel.recv(MESSAGE_BYTES))
        except (TimeoutError, ConnectionResetError):
            return None

    def _heard(self, message: bytes) -> Observed | None:
        if not message:
            return self._lost()
        if message.isdigit():
            self._supervisor = int(message)
            return None
        return unpack_observed(message)

    def _ask_to_stop(self) -> None:
        try:
            self._channel.send(b"cancel")
        except (BrokenPipeError, ConnectionResetError):
            return

    def _lost(self) -> Observed:
        """Clean up after a supervisor that ended without a verdict."""
        if self._job.cgroup is not None:
            cgroup.kill(self._job.cgroup)
        left: list[int] = []
        if self._supervisor is not None:
            processes.kill(self._supervisor)
            left = processes.sweep(session=self._supervisor, uid=self._job.uid)
        still = f"; processes {left} of it go on" if left else ""
        return setup_failed(f"the zygote or the supervisor was killed{still}; run it again")
