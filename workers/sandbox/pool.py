"""Zygotes by environment, slots by user: runs calls at a given level, from several threads at once."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.sandbox import processes, slots
from workers.sandbox.job import MESSAGE_BYTES, Job, Observed, setup_failed, unpack_observed
from workers.sandbox.launcher import Zygote, ZygoteFailed
from workers.sandbox.values import Call, Ending, Level

CODE_FOLDERS = ("farm", "workers", "hardware_profiles")
"""What of the code root a child may read; its siblings may hold secrets."""

_POLL_S = 0.05
_CANCEL_GRACE_S = 1.0
_SILENCE_S = 60.0
"""A supervisor that says nothing so long after its time is taken for dead."""

Key = tuple[Path, tuple[str, ...]]


@dataclass(slots=True)
class _Place:
    """Where one key's zygote lives; the lock is held while it starts."""

    lock: threading.Lock
    zygote: Zygote | None = None


class Pool:
    """Run calls; start, replace and end zygotes."""

    def __init__(self, *, folder: Path, code_root: Path, slots: int, code: tuple[str, ...] = CODE_FOLDERS) -> None:
        self._folder = folder
        self._code = tuple(code_root.absolute() / name for name in code if (code_root / name).is_dir())
        self._import_root = _link(self._code, folder.absolute() / "code")
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._slots.put(slot)
        self._places: dict[Key, _Place] = {}
        self._lock = threading.Lock()
        self._closed = False

    def warm(self, environment: Path, preload: tuple[str, ...]) -> Zygote:
        """Return the running zygote of a key, started if need be.

        Raises:
            EnvironmentMissing, ZygoteFailed
        """
        with self._lock:
            if self._closed:
                raise ZygoteFailed("the sandbox is closed")
            key = (environment.absolute(), preload)
            place = self._places.setdefault(key, _Place(threading.Lock()))
        with place.lock:
            if place.zygote is None or not place.zygote.alive:
                if place.zygote is not None:
                    place.zygote.close()
                place.zygote = Zygote(*key, import_root=self._import_root, folder=self._folder)
            return place.zygote

    def run(self, call: Call, level: Level, cancel: threading.Event | None = None) -> Ending:
        """Run one call to its end; waits for a free slot.

        Raises:
            EnvironmentMissing: no interpreter there.
        """
        cancel = cancel or threading.Event()
        with self._slot(cancel) as slot:
            if slot is None:
                return _ending(Observed("cancelled"), level, 0.0)
            asked = time.monotonic()
            observed = self._run_in(slot, call, level, cancel)
            return _ending(observed, level, asked)

    def zygote_pids(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(place.zygote.pid for place in self._places.values() if place.zygote and place.zygote.alive)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            places = list(self._places.values())
        for place in places:
            with place.lock:
                if place.zygote is not None:
                    place.zygote.close()

    @contextmanager
    def _slot(self, cancel: threading.Event) -> Iterator[int | None]:
        slot = None
        while slot is None and not cancel.is_set():
            try:
                slot = self._slots.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        try:
            yield slot
        finally:
            if slot is not None:
                self._slots.put(slot)

    def _run_in(self, slot: int, call: Call, level: Level, cancel: threading.Event) -> Observed:
        job = self._job(call, level, slots.user_of(slot))
        try:
            slots.hand_over(call.work, job.uid)
            zygote = self.warm(call.environment, () if call.fresh else call.preload)
            channel = zygote.submit(job)
        except (OSError, ZygoteFailed) as exc:
            return setup_failed(str(exc))
        with channel:
            return _Run(channel, job).until_end(cancel)

    def _job(self, call: Call, level: Level, uid: int | None) -> Job:
        return Job(
            entry=call.entry,
            work=str(call.work.absolute()),
            readable=tuple(str(path.absolute()) for path in call.readable),
            import_root=str(self._import_root),
            code=tuple(map(str, self._code)),
            limits=call.limits,
            level=level,
            fresh=call.fresh,
            spawns=call.spawns,
            uid=uid,
            cores=call.cores,
        )


class _Run:
    """The conversation with one supervisor."""

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
        if self._supervisor is not None:
            processes.kill(self._supervisor)
            processes.sweep(session=self._supervisor, uid=self._job.uid)
        return setup_failed("the zygote or the supervisor was killed; run it again")


def _link(code: tuple[Path, ...], folder: Path) -> Path:
    """Make a folder of links to import from: landlock then needs to open no folder that has other things beside."""
    folder.mkdir(mode=0o755, exist_ok=True)
    for target in code:
        link = folder / target.name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return folder


def _ending(observed: Observed, level: Level, asked: float) -> Ending:
    start_ms = None if observed.started is None else (observed.started - asked) * 1000
    return Ending(
        end=observed.end,
        exit_code=observed.exit_code,
        signal=observed.signal,
        run_time_s=observed.run_time_s,
        peak_memory_bytes=observed.peak_memory_bytes,
        level=level,
        detail=observed.detail,
        start_ms=start_ms,
    )
