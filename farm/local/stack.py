"""One embedded stack in one data folder, as its users meet it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from farm.domain.errors import Conflict, FarmUnreachable
from farm.local import running
from farm.local.blueprint import ALL, SERVICES, Blueprint
from farm.local.detached import spawn_supervisor
from farm.local.folder import Folder
from farm.local.info import StackInfo, read_info
from farm.local.part import Part
from farm.local.process import wait_end
from farm.local.running import Progress
from farm.local.supervisor import SUPERVISOR, Supervisor

__all__ = ["ALL", "SERVICES", "Stack", "find_running"]

SUPERVISOR_STOPS_WITHIN_S = 120.0
PUBLISHED_WITHIN_S = 10.0


def silent(_line: str) -> None:
    """Show no progress."""


class Stack:
    """Start, find and stop the parts of one data folder.

    Args:
        data: created when missing; everything of the stack lies there.
        listen: HOST:PORT of the API, kept in the folder; on loopback at a free port by default.
        settings_overrides: FARM_… variables for every part.
        durable: False trades safety against power loss for speed (tests).
    """

    def __init__(
        self,
        data: Path,
        *,
        listen: str | None = None,
        settings_overrides: Mapping[str, str] | None = None,
        durable: bool = True,
    ) -> None:
        self.folder = Folder(Path(os.path.abspath(data)))  # noqa: PTH100
        self._blueprint = Blueprint(self.folder, listen, dict(settings_overrides or {}), durable)

    def up(self, *, parts: Sequence[str] = ALL, on_progress: Progress = silent) -> StackInfo:
        """Bring parts up, adopting those that run; return when every part answers. A supervisor keeps them alive.

        Raises:
            FarmUnreachable: a part did not come up; names it and shows the end of its log.
            ConfigurationError, HostFull: the folder, a port, a program or an account stands in the way.
        """
        self._blueprint.open()
        try:
            spawn_supervisor(self._blueprint, parts, on_progress)
        except Conflict:  # one runs already: it is up when its parts answer
            self._await_all(parts, on_progress)
        return self._published()

    def _published(self) -> StackInfo:
        """Read how to reach the stack; its supervisor writes that down a moment after its parts answer."""
        deadline = time.monotonic() + PUBLISHED_WITHIN_S
        while (info := self.info()) is None:
            if time.monotonic() > deadline:
                raise FarmUnreachable(f"The stack in {self.folder.root} was stopped while it came up.")
            time.sleep(running.POLL_S)
        return info

    def run(
        self, *, parts: Sequence[str] = ALL, on_progress: Progress = silent, on_ready: Callable[[StackInfo], None]
    ) -> None:
        """Bring parts up and supervise them here; return after SIGINT or SIGTERM stopped them all, in order.

        Raises:
            Conflict: another supervisor runs the stack already. And as `up`.
        """
        Supervisor(self._blueprint, parts, on_progress).run(on_ready)

    def _await_all(self, parts: Sequence[str], on_progress: Progress) -> None:
        for part in self._blueprint.define(parts):
            running.await_answer(self.folder, part)
            on_progress(f"{part.name}: ready (already ran)")

    def down(self, *, on_progress: Progress = silent) -> None:
        """Stop the supervisor, then what it left, in order; without a stack, do nothing. Never signals a stranger."""
        if not self.folder.run.is_dir():
            return
        supervisor = running.running(self.folder, SUPERVISOR)
        if supervisor and supervisor.identity.pid != os.getpid():
            os.kill(supervisor.identity.pid, signal.SIGTERM)
            if not wait_end(supervisor.identity, SUPERVISOR_STOPS_WITHIN_S):
                os.kill(supervisor.identity.pid, signal.SIGKILL)
                wait_end(supervisor.identity, SUPERVISOR_STOPS_WITHIN_S)
        with running.locked(self.folder):
            running.stop_all(self.folder, on_progress)
            self._blueprint.withdraw()

    def info(self) -> StackInfo | None:
        """Read how to reach the stack; None when nothing of it runs."""
        living = {
            part: found.identity.pid for part in (*ALL, SUPERVISOR) if (found := running.running(self.folder, part))
        }
        info = read_info(self.folder)
        return replace(info, pids=living) if info and set(living) & set(ALL) else None

    def pid(self, part: str) -> int:
        """Return a running part's pid; KeyError when it does not run."""
        record = running.running(self.folder, part)
        if record is None:
            raise KeyError(f"{part} does not run")
        return record.identity.pid

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a part a signal, wait for its end when that is SIGKILL, and return the pid it had."""
        record = running.running(self.folder, part)
        if record is None:
            raise KeyError(f"{part} does not run")
        os.kill(record.identity.pid, number)
        if number == signal.SIGKILL:
            wait_end(record.identity, 10.0)
        return record.identity.pid

    def stop(self, part: str) -> None:
        """Stop one part and hold it back, also from the supervisor, until `start`."""
        running.hold(self.folder, part)
        running.stop(self.folder, part)

    def start(self, part: str) -> None:
        """Release a part that was held back or killed, and wait until it answers."""
        running.release(self.folder, part)
        definition = self._define_one(part)
        supervisor = running.running(self.folder, SUPERVISOR)
        if supervisor:
            os.kill(supervisor.identity.pid, signal.SIGHUP)
        else:
            running.adopt_or_start(self.folder, definition, silent)
            self._blueprint.publish()
        running.await_answer(self.folder, definition)

    def await_restart(self, part: str, old_pid: int) -> int:
        """Wait until a part answers under another pid than `old_pid`; return that pid.

        Raises:
            FarmUnreachable: it does not.
        """
        return running.await_answer(self.folder, self._define_one(part), other_than=old_pid).identity.pid

    def _define_one(self, part: str) -> Part:
        return self._blueprint.define([part])[0]

    def start_unsupervised(self, parts: Sequence[str] = SERVICES) -> StackInfo:
        """Bring parts up without a supervisor (tests); `down` ends them."""
        self._blueprint.open()
        with running.locked(self.folder):
            running.start_all(self.folder, self._blueprint.define(parts), silent)
            return self._blueprint.publish()


def find_running(data: Path = Path(".farm")) -> StackInfo | None:
    """Find the stack that runs in `data`."""
    return Stack(data).info()
