"""Wait for the end of a run, or end it at a limit."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from workers.sandbox import cgroup, disk, processes
from workers.sandbox.job import Job, Observed, setup_failed
from workers.sandbox.values import OUT_OF_MEMORY_EXIT

POLL_S = 0.05
SETUP_S = 30.0
EMULATED_SETUP_S = 120.0
_DISK_SHARE = 20
"""The disk is measured so seldom that measuring takes a twentieth of one processor at most."""
_PROBABLY_MEMORY = 0.9


@dataclass(frozen=True, slots=True)
class Sources:
    """File descriptors the supervisor listens on.

    Attributes:
        channel: the worker; anything read, or its end, cancels.
        orphaned: readable when the zygote died.
        ready: the child's "started", or a setup error.
        status: init's report of how the child ended.
    """

    channel: int
    orphaned: int
    ready: int
    status: int


class Watch:
    """The state of one run as its supervisor sees it."""

    def __init__(self, job: Job, sources: Sources, *, init: int) -> None:
        self._job = job
        self._sources = sources
        self._init = init
        self._inherited_bytes = 0 if job.fresh else processes.anonymous_bytes(os.getpid())
        self._started: float | None = None
        self._child_start_bytes = 0
        self._peak_bytes = 0
        self._cpu_s: float | None = None
        self._setup_s = SETUP_S if job.foreign is None else EMULATED_SETUP_S
        self._setup_deadline = time.monotonic() + self._setup_s
        self._next_disk_check = 0.0
        self._poll = select.poll()
        for source in (sources.channel, sources.orphaned, sources.ready, sources.status):
            self._poll.register(source, select.POLLIN)

    def until_end(self) -> Observed:
        """Return how the run ended; the tree may still be alive then."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll(POLL_S * 1000)}
            observed = self._heard(ready) or self._over_limit()
            if observed is not None:
                return self._with_measures(observed)

    def _heard(self, ready: set[int]) -> Observed | None:
        """Listen in this order: a child that started and ended at once was started first."""
        observed = None
        if self._sources.ready in ready:
            observed = self._child_spoke()
        if observed is None and self._sources.channel in ready:
            os.read(self._sources.channel, 64)
            observed = Observed("cancelled")
        if observed is None and self._sources.orphaned in ready:
            observed = setup_failed("the zygote died")
        if observed is None and self._sources.status in ready:
            observed = self._child_ended()
        return observed

    def _child_spoke(self) -> Observed | None:
        message = os.read(self._sources.ready, 8192)
        if message.startswith(b"!"):
            return setup_failed(message[1:].decode(errors="replace"))
        if message:
            start = json.loads(message)
            self._started, self._child_start_bytes = start["started"], start["memory"]
        else:
            self._poll.unregister(self._sources.ready)
        return None

    def _child_ended(self) -> Observed:
        message = os.read(self._sources.status, 8192)
        if not message:
            return self._ended_by(
                signal.SIGKILL, "the sandbox's first process was killed, as the kernel does without memory"
            )
        report = json.loads(message)
        status = int(report["status"])
        if self._started is None:
            return setup_failed(f"the child ended before its start, status {status}: {self._last_words()}")
        self._peak_bytes = max(self._peak_bytes, int(report["peak"]) - self._child_start_bytes)
        self._cpu_s = float(report["cpu_s"])
        if os.WIFSIGNALED(status):
            return self._blamed(self._ended_by(os.WTERMSIG(status), None))
        return self._blamed(Observed("exit", exit_code=os.WEXITSTATUS(status)))

    def _ended_by(self, number: int, detail: str | None) -> Observed:
        name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
        limit_s = self._job.limits.cpu_s
        if limit_s is not None and name in ("SIGXCPU", "SIGKILL"):
            detail = detail or f"over {limit_s:g} s of processor time"
        return Observed("signal", signal=name, detail=detail)

    def _blamed(self, observed: Observed) -> Observed:
        """Name the limit behind an ending, where there is one; full disks count even when the child exits with 0."""
        limits = self._job.limits
        too_much, largest = self._disk()
        if too_much:
            return replace(observed, end="disk", detail=too_much)
        if self._job.cgroup is not None and cgroup.ran_out_of_memory(self._job.cgroup):
            return replace(observed, end="memory", detail=f"the kernel ended it at {limits.memory_bytes} bytes")
        if observed.exit_code == 0:
            return observed
        if largest >= limits.file_bytes:
            return replace(observed, end="disk", detail=f"a file reached the limit of {limits.file_bytes} bytes")
        if observed.exit_code == OUT_OF_MEMORY_EXIT:
            return replace(observed, end="memory", detail=f"MemoryError; {limits.memory_bytes} bytes allowed")
        if self._peak_bytes >= _PROBABLY_MEMORY * limits.memory_bytes:
            return replace(
                observed, end="memory", detail=f"probably: {self._peak_bytes} of {limits.memory_bytes} bytes"
            )
        return observed

    def _over_limit(self) -> Observed | None:
        now = time.monotonic()
        if self._started is None:
            return setup_failed(f"setup took over {self._setup_s:g} s") if now > self._setup_deadline else None
        if now - self._started > self._job.limits.wall_s:
            return Observed("wall", detail=f"over {self._job.limits.wall_s:g} s")
        return self._over_memory() or self._over_disk(now)

    def _over_memory(self) -> Observed | None:
        tree = sum(processes.anonymous_bytes(pid) for pid in processes.descendants(self._init))
        used = max(0, tree - self._inherited_bytes)
        self._peak_bytes = max(self._peak_bytes, used)
        limit = self._job.limits.memory_bytes
        return Observed("memory", detail=f"{used} bytes, {limit} allowed") if used > limit else None

    def _over_disk(self, now: float) -> Observed | None:
        if now < self._next_disk_check:
            return None
        too_much, _ = self._disk()
        took_s = time.monotonic() - now
        self._next_disk_check = now + max(POLL_S, _DISK_SHARE * took_s)
        return Observed("disk", detail=too_much) if too_much else None

    def _disk(self) -> tuple[str | None, int]:
        """Return what is wrong with the disk usage, and the size of the largest file."""
        limit = self._job.limits.disk_bytes
        try:
            total, largest = disk.usage(self._job.work)
        except disk.Unmeasurable as exc:
            return f"the work folder cannot be measured: {exc}", 0
        total += sum(disk.deleted_bytes(pid) for pid in processes.descendants(self._init))
        return (f"{total} bytes in the work folder, {limit} allowed" if total > limit else None), largest

    def _with_measures(self, observed: Observed) -> Observed:
        if self._started is None:
            return observed
        run_time_s = time.monotonic() - self._started
        return replace(
            observed,
            run_time_s=run_time_s,
            peak_memory_bytes=self._peak_bytes,
            started=self._started,
            cpu_s=self._cpu_s,
        )

    def _last_words(self) -> str:
        """Return the end of the log, which only our own start code has written by then."""
        log = Path(self._job.work, "log.txt")
        return log.read_text(errors="replace")[-500:].strip() if log.is_file() else ""
