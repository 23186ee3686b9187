"""Record the conditions of a measurement and tell which of them make it invalid.

What can't be read is recorded as None and does no harm, with these exceptions, which give `unknown-state`: emulation,
other processes' load, steal, and whatever the profile's policy lists in `must_read` (boards that do show their clocks
and temperature). So a virtual machine without cpufreq can measure, and a board whose sensors fail can't.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from hardware_profiles.schema import MeasurementPolicy, Profile
from workers.host.competitors import Competitor, competitors, own_pid, processes
from workers.host.devices import read_sensors, read_throttles
from workers.host.facts import HostFacts, Throttle
from workers.host.readings import TICKS_PER_S, CoreTime, core_times, number, text

INTERVAL_S = 1.0
GLIMPSES = 10
"""So often in an interval flags alone are read, where some are up since boot: those hide a short new throttling."""
CLOCK_REFERENCES = (("base_frequency", 1), ("../acpi_cppc/nominal_freq", 1000), ("cpuinfo_max_freq", 1))
"""What a core's clock is held against, first found: the guaranteed frequency, else the highest."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The state of a host at one moment.

    Attributes:
        taken_s: monotonic clock.
        clocks: core -> its clock as a ratio of what it should reach.
        temperature_c: the hottest sensor of the processor.
        memory_stall_s: seconds since boot in which some task waited for memory (PSI).
    """

    taken_s: float
    core_times: Mapping[int, CoreTime] = field(default_factory=dict)
    governors: Mapping[int, str] = field(default_factory=dict)
    clocks_khz: Mapping[int, int] = field(default_factory=dict)
    clocks: Mapping[int, float] = field(default_factory=dict)
    temperature_c: float | None = None
    throttles: tuple[Throttle, ...] = ()
    memory_stall_s: float | None = None


def sample(root: Path = Path("/")) -> Conditions:
    """Read the state of the host now."""
    times = core_times(root)
    folders = {index: f"sys/devices/system/cpu/cpu{index}/cpufreq" for index in times}
    clocks = {index: number(root, f"{folder}/scaling_cur_freq") for index, folder in folders.items()}
    references = {index: _clock_reference(root, folder) for index, folder in folders.items()}
    temperatures = [sensor.celsius for sensor in read_sensors(root) if sensor.of_processor]
    return Conditions(
        taken_s=time.monotonic(),
        core_times=times,
        governors={i: governor for i, f in folders.items() if (governor := text(root, f"{f}/scaling_governor"))},
        clocks_khz={index: clock for index, clock in clocks.items() if clock},
        clocks={i: clock / reference for i, clock in clocks.items() if clock and (reference := references[i])},
        temperature_c=max(temperatures, default=None),
        throttles=read_throttles(root),
        memory_stall_s=_memory_stall(root),
    )


@dataclass(frozen=True, slots=True)
class Window:
    """A measurement's time: the state before, during and after it, on the cores it was pinned to.

    Attributes:
        own_cpu_s: processor time of the measuring processes themselves; None when it isn't known.
        competitors: other processes that ran meanwhile, on whichever core.
        glimpses: throttle flags as they were between the samples.
    """

    before: Conditions
    after: Conditions
    cores: tuple[int, ...]
    own_cpu_s: float | None
    during: tuple[Conditions, ...] = ()
    competitors: tuple[Competitor, ...] = ()
    glimpses: tuple[Throttle, ...] = ()

    @property
    def samples(self) -> tuple[Conditions, ...]:
        return (self.before, *self.during, self.after)

    @property
    def duration_s(self) -> float:
        return self.after.taken_s - self.before.taken_s

    @property
    def load_ratio(self) -> float | None:
        """Give the share of the pinned cores' time that other processes took."""
        busy, total = self._elapsed("busy_s"), self._elapsed("total_s")
        if busy is None or not total or self.own_cpu_s is None:
            return None
        rounding_s = 2 * len(self.cores) / TICKS_PER_S
        return max(0.0, busy - self.own_cpu_s - rounding_s) / total

    @property
    def steal_ratio(self) -> float | None:
        """Give the share of the pinned cores' time that the hypervisor gave to others."""
        steal, total = self._elapsed("steal_s"), self._elapsed("total_s")
        return steal / total if steal is not None and total else None

    @property
    def memory_stall_ratio(self) -> float | None:
        before, after = self.before.memory_stall_s, self.after.memory_stall_s
        if before is None or after is None or self.duration_s <= 0:
            return None
        return (after - before) / self.duration_s

    @property
    def clock_ratio(self) -> float | None:
        """Give the lowest clock of any pinned core while measuring; at the end, where nothing was sampled during."""
        samples = self.during or (self.after,)
        return min((s.clocks[core] for s in samples for core in self.cores if core in s.clocks), default=None)

    @property
    def clocks_khz(self) -> list[int]:
        samples = self.during or (self.after,)
        return [s.clocks_khz[core] for s in samples for core in self.cores if core in s.clocks_khz]

    @property
    def temperature_c(self) -> float | None:
        return max((s.temperature_c for s in self.samples if s.temperature_c is not None), default=None)

    @property
    def governors(self) -> tuple[str, ...]:
        return tuple(sorted({s.governors[core] for s in self.samples for core in self.cores if core in s.governors}))

    @property
    def throttled_by(self) -> tuple[str, ...]:
        """Name flags that were up at a sample, went up meanwhile, or whose counter rose."""
        known = {throttle.source: throttle for throttle in self.before.throttles}
        seen = (*(throttle for s in self.samples for throttle in s.throttles), *self.glimpses)
        found = {f"{throttle.source}: {flag}" for throttle in seen for flag in throttle.active}
        for throttle in self.after.throttles:
            former = known.get(throttle.source, throttle)
            found |= {f"{throttle.source}: {flag}" for flag in set(throttle.occurred) - set(former.occurred)}
            if (throttle.count or 0) > (former.count or 0):
                found.add(f"{throttle.source}: counted")
        return tuple(sorted(found))

    def _elapsed(self, name: str) -> float | None:
        before, after = self.before.core_times, self.after.core_times
        if not self.cores or any(core not in before or core not in after for core in self.cores):
            return None
        return sum(float(getattr(after[core], name) - getattr(before[core], name)) for core in self.cores)


def breaches(window: Window, policy: MeasurementPolicy, emulated: bool | None) -> list[str]:
    """List the reasons why a measurement under these conditions is not valid; none when it is."""
    found = {
        "emulated": emulated is True,
        "throttled": bool(window.throttled_by),
        "hot": _above(window.temperature_c, policy.temperature_ceiling_c),
        "loaded": _above(window.load_ratio, policy.load_max),
        "steal": _above(window.steal_ratio, policy.steal_max),
        "clock-low": window.clock_ratio is not None and window.clock_ratio < policy.clock_min_ratio,
        "governor": policy.governor is not None and any(name != policy.governor for name in window.governors),
        "memory-pressure": _above(window.memory_stall_ratio, policy.memory_stall_max),
        "unknown-state": bool(unknowns(window, policy, emulated)),
    }
    return [reason for reason, holds in found.items() if holds]


def unknowns(window: Window, policy: MeasurementPolicy, emulated: bool | None) -> list[str]:
    """Name the readings that are missing and without which nothing can be said about the measurement."""
    readings: dict[str, object] = {
        "governor": window.governors or None,
        "clock": window.clock_ratio,
        "temperature": window.temperature_c,
        "throttle": window.after.throttles or None,
        "memory-pressure": window.memory_stall_ratio,
    }
    always = {"emulation": emulated, "load": window.load_ratio, "steal": window.steal_ratio}
    missing = [name for name, value in always.items() if value is None]
    return missing + [name for name in policy.must_read if readings[name] is None]


def envelope(
    window: Window, *, facts: HostFacts, host: str, profile: Profile, reasons: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the report's `conditions`: validity, its reasons, and every reading, null where there was none.

    Args:
        window: the measurement's time.
        facts: the host as probed for this measurement.
        host: its name.
        profile: the one it is identified as.
        reasons: further ones, of the measurement's stability.
    """
    policy = profile.measurement
    found = [*breaches(window, policy, facts.emulated), *reasons]
    clocks = window.clocks_khz
    return {
        "valid": not found,
        "reasons": list(dict.fromkeys(found)),
        "emulated": facts.emulated,
        "host": host,
        "profile": profile.name,
        "cpu": facts.cpu.model or "unknown",
        "governor": ", ".join(window.governors) or None,
        "unknown": unknowns(window, policy, facts.emulated),
        "cores": list(window.cores),
        "kernel": facts.kernel,
        "virtualization": facts.virtualization,
        "duration_s": window.duration_s,
        "load_ratio": window.load_ratio,
        "steal_ratio": window.steal_ratio,
        "memory_stall_ratio": window.memory_stall_ratio,
        "clock_min_khz": min(clocks, default=None),
        "clock_mean_khz": sum(clocks) / len(clocks) if clocks else None,
        "clock_ratio": window.clock_ratio,
        "temperature_start_c": window.before.temperature_c,
        "temperature_end_c": window.after.temperature_c,
        "temperature_max_c": window.temperature_c,
        "throttled_by": list(window.throttled_by),
        "competing_processes": [{"name": one.name, "cores": one.cores} for one in window.competitors],
        "cool_down_s": policy.cool_down_s,
    }


class Watch:
    """Sample conditions before, every second during, and after a measurement.

    with Watch(cores) as watch: measure()
    window = watch.window(own_cpu_s)
    """

    def __init__(self, cores: Sequence[int], root: Path = Path("/"), interval_s: float = INTERVAL_S) -> None:
        self._cores, self._root, self._interval_s = tuple(cores), root, interval_s
        self._done = threading.Event()
        self._during: list[Conditions] = []
        self._glimpses: dict[Throttle, None] = {}
        self._thread = threading.Thread(target=self._run, name="conditions", daemon=True)

    def __enter__(self) -> Watch:
        self._processes = processes(self._root)
        self._before = sample(self._root)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._after = sample(self._root)
        self._done.set()
        self._thread.join()
        self._competitors = competitors(
            self._processes,
            processes(self._root),
            duration_s=self._after.taken_s - self._before.taken_s,
            own=own_pid(self._root),
        )

    def window(self, own_cpu_s: float | None) -> Window:
        """Give the whole window, after the watch has ended."""
        during, glimpses = tuple(self._during), tuple(self._glimpses)
        return Window(self._before, self._after, self._cores, own_cpu_s, during, self._competitors, glimpses)

    def _run(self) -> None:
        looks = 0
        while not self._done.wait(self._interval_s / GLIMPSES):
            looks += 1
            if looks % GLIMPSES == 0:
                self._during.append(sample(self._root))
            elif any(throttle.occurred for throttle in self._before.throttles):
                self._glimpses |= dict.fromkeys(read_throttles(self._root))


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _clock_reference(root: Path, folder: str) -> int | None:
    found = (value * unit for name, unit in CLOCK_REFERENCES if (value := number(root, f"{folder}/{name}")))
    return next(found, None)


def _memory_stall(root: Path) -> float | None:
    """Read the line "some avg10=… total=MICROSECONDS". Source: Linux, Documentation/accounting/psi.rst."""
    for line in (text(root, "proc/pressure/memory") or "").splitlines():
        if line.startswith("some "):
            return int(line.rpartition("total=")[2]) / 1e6
    return None
