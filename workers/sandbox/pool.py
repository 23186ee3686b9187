"""Zygotes by environment, slots by user: runs calls at a given level, from several threads at once."""

from __future__ import annotations

import itertools
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from workers.sandbox import cgroup, memory, slots
from workers.sandbox.conversation import Conversation
from workers.sandbox.job import Job, Observed, setup_failed
from workers.sandbox.launcher import Zygote, ZygoteFailed
from workers.sandbox.values import Call, Ending, Level

CODE_FOLDERS = ("farm", "workers", "hardware_profiles")
"""What of the code root a child may read; its siblings may hold secrets."""

_POLL_S = 0.05

Key = tuple[Path, tuple[str, ...]]


@dataclass(slots=True)
class _Place:
    """Where one key's zygote lives; the lock is held while it starts, and one in use is not given up."""

    lock: threading.Lock
    zygote: Zygote | None = None
    users: int = 0
    last_used: float = 0.0


class Pool:
    """Run calls; start, replace and end zygotes."""

    def __init__(
        self,
        *,
        folder: Path,
        code_root: Path,
        slots: int,
        code: tuple[str, ...] = CODE_FOLDERS,
        groups: Path | None = None,
        is_short: Callable[[], bool] = memory.is_short,
    ) -> None:
        """Prepare the folder; zygotes start when they are needed, control groups are made in `groups`.

        Idle zygotes end, the least recently used first, for as long as memory `is_short`.
        """
        self._folder = folder
        self._code = tuple(code_root.absolute() / name for name in code if (code_root / name).is_dir())
        self._import_root = _link(self._code, folder.absolute() / "code")
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._slots.put(slot)
        self._groups = groups
        self._run_numbers = itertools.count()
        self._starters = ThreadPoolExecutor(max_workers=2 * slots, thread_name_prefix="zygote")
        self._places: dict[Key, _Place] = {}
        self._lock = threading.Lock()
        self._closed = False
        self.is_short = is_short

    def warm(self, environment: Path, preload: tuple[str, ...]) -> Zygote:
        """Return the running zygote of a key, started if need be.

        Raises:
            EnvironmentMissing, ZygoteFailed
        """
        key = (environment.absolute(), preload)
        with self._in_use(key) as place, place.lock:
            if self._closed:
                raise ZygoteFailed("the sandbox is closed")
            if place.zygote is None or not place.zygote.alive:
                if place.zygote is not None:
                    place.zygote.close()
                place.zygote = Zygote(*key, import_root=self._import_root, folder=self._folder)
                if self._closed:
                    place.zygote.close()
                place.zygote.await_import()
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
        """End all zygotes, also those that still import; a run in flight ends as a setup error."""
        with self._lock:
            self._closed = True
            places = list(self._places.values())
        for place in places:
            if place.zygote is not None:
                place.zygote.close()
        self._starters.shutdown()

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
            slots.hand_over(call.work, job.uid, plainly=call.foreign is not None)
            with self._in_use(_key(call)), self._group(call) as group:
                job = replace(job, cgroup=group)
                channel = self._submit(job, call, cancel)
                if channel is None:
                    return Observed("cancelled")
                with channel:
                    return Conversation(channel, job).until_end(cancel)
        except (OSError, ZygoteFailed) as exc:
            return setup_failed(str(exc))

    @contextmanager
    def _in_use(self, key: Key) -> Iterator[_Place]:
        """Keep the zygote of a key; others that are idle go first where memory is short."""
        with self._lock:
            place = self._places.setdefault(key, _Place(threading.Lock()))
            place.users += 1
        try:
            self._make_room()
            yield place
        finally:
            with self._lock:
                place.users -= 1
                place.last_used = time.monotonic()

    def _make_room(self) -> None:
        while self.is_short():
            with self._lock:
                idle = [place for place in self._places.values() if place.zygote is not None and not place.users]
                if not idle:
                    return
                oldest = min(idle, key=lambda place: place.last_used)
                given_up, oldest.zygote = oldest.zygote, None
            if given_up is not None:
                given_up.close()

    def _submit(self, job: Job, call: Call, cancel: threading.Event) -> socket.socket | None:
        """Hand the job to its zygote; to a new one when that died without anybody noticing yet."""
        zygote = self._warm_unless(cancel, _key(call))
        try:
            return zygote.submit(job) if zygote else None
        except ZygoteFailed:
            if zygote is not None:
                zygote.close()
            zygote = self._warm_unless(cancel, _key(call))
            return zygote.submit(job) if zygote else None

    def _warm_unless(self, cancel: threading.Event, key: Key) -> Zygote | None:
        """Return a zygote, or None as soon as `cancel` is set; a started import goes on for the next run."""
        try:
            starting = self._starters.submit(self.warm, *key)
        except RuntimeError as exc:
            raise ZygoteFailed("the sandbox is closed") from exc
        while not cancel.is_set():
            try:
                return starting.result(_POLL_S)
            except TimeoutError:
                continue
        return None

    @contextmanager
    def _group(self, call: Call) -> Iterator[str | None]:
        """Give a run its control group where there may be one."""
        if self._groups is None:
            yield None
            return
        name = f"farm-run-{os.getpid()}-{next(self._run_numbers)}"
        group = cgroup.make(self._groups, name, call.limits)
        try:
            yield str(group)
        finally:
            cgroup.remove(group)

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
            foreign=call.foreign,
            devices=tuple(str(path.absolute()) for path in call.devices),
        )


def _key(call: Call) -> Key:
    return call.environment.absolute(), () if call.fresh else call.preload


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
        cpu_s=observed.cpu_s,
        level=level,
        detail=observed.detail,
        start_ms=start_ms,
    )
