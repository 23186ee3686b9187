"""Read energy meters where a host has one: what they count, and over which part of the machine.

A counter gives joules that only rise and wrap around; a gauge gives watts, which are integrated over time. What can't
be read is no meter: since Linux 5.10 RAPL's counters are root's alone.

Source: Linux, Documentation/power/powercap/powercap.rst (intel-rapl, energy_uj, max_energy_range_uj);
Documentation/hwmon/sysfs-interface.rst (energy*_input in microjoules, power*_input in microwatts, in*_input in
millivolts, curr*_input in milliamperes); Documentation/hwmon/ina2xx.rst and ina3221.rst; amd_energy.rst (Esocket).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from farm.domain.statistics.energy import Reading
from workers.host.readings import matches, number, text

INTERVAL_S = 0.1
RAPL = "sys/class/powercap/intel-rapl:[0-9]*"
MONITORS = "sys/class/hwmon/hwmon[0-9]*"
POWER_MONITORS = ("ina2", "ina3", "ltc", "adm12", "power_meter")
"""hwmon drivers of meters on a board's supply; others measure a graphics card or a single chip."""
SUPPLY_LABELS = ("VDD_IN", "POM_5V_IN", "VDD_5V_IN")
"""Channels of a Jetson's ina3221 that carry the whole board."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Files that count microjoules; `wraps_uj` is where each begins anew, 0 where that is not known."""

    name: str
    covers: str
    files: tuple[str, ...]
    wraps_uj: tuple[int, ...]

    def read(self, root: Path) -> tuple[int, ...] | None:
        values = [number(root, file) for file in self.files]
        known = tuple(value for value in values if value is not None)
        return known if len(known) == len(values) else None

    def spent_j(self, before: Sequence[int], after: Sequence[int]) -> float | None:
        """Give the joules between two readings that are less than one wrap apart; None where a counter went back."""
        spent = 0
        for old, new, wrap in zip(before, after, self.wraps_uj, strict=True):
            if new < old and not wrap:
                return None
            spent += new - old if new >= old else new - old + wrap
        return spent / 1e6


@dataclass(frozen=True, slots=True)
class Gauge:
    """Files whose product is the power at this moment; `unit` makes watts of it."""

    name: str
    covers: str
    files: tuple[str, ...]
    unit: float

    def read(self, root: Path) -> float | None:
        power = self.unit
        for file in self.files:
            value = number(root, file)
            if value is None:
                return None
            power *= value
        return power


Meter = Counter | Gauge


def find_meter(root: Path = Path("/")) -> Meter | None:
    """Find the best meter that can be read: RAPL's packages, sockets of amd_energy, else a monitor on the supply."""
    for find in (_rapl, _sockets, _supply):
        meter = find(root)
        if meter is not None and meter.read(root) is not None:
            return meter
    return None


@dataclass(slots=True)
class Metering:
    """Read a meter ten times a second while the block runs; `readings` are (monotonic seconds, joules since then)."""

    meter: Meter
    root: Path = Path("/")
    interval_s: float = INTERVAL_S
    now_s: Callable[[], float] = time.monotonic
    readings: list[Reading] = field(default_factory=list)
    is_broken: bool = False
    _last: tuple[int, ...] | float | None = None
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Metering:
        self.look()
        self._thread = threading.Thread(target=self._run, name="energy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        self.look()

    def look(self) -> None:
        """Take one reading; one that fails, or goes back, breaks the whole metering."""
        at_s, value = self.now_s(), self.meter.read(self.root)
        so_far = self.readings[-1] if self.readings else Reading(at_s, 0.0)
        spent = self._spent(value, at_s - so_far.at_s)
        if spent is None:
            self.is_broken = True
            return
        self._last = value
        self.readings.append(Reading(at_s, so_far.joules + spent))

    def _spent(self, value: tuple[int, ...] | float | None, elapsed_s: float) -> float | None:
        if value is None:
            return None
        if self._last is None:
            return 0.0
        if isinstance(self.meter, Counter) and isinstance(value, tuple) and isinstance(self._last, tuple):
            return self.meter.spent_j(self._last, value)
        if isinstance(value, (int, float)) and isinstance(self._last, (int, float)):
            return (value + self._last) / 2 * elapsed_s
        return None

    def _run(self) -> None:
        while not self._done.wait(self.interval_s):
            self.look()


def _rapl(root: Path) -> Counter | None:
    """Add up the packages; their subdomains (core, uncore, dram) and psys are left out."""
    zones = [zone for zone in matches(root, RAPL) if (text(root, f"{zone}/name") or "").startswith("package")]
    if not zones:
        return None
    names = ", ".join(text(root, f"{zone}/name") or "" for zone in zones)
    return Counter(
        f"intel-rapl {names}",
        "processor package",
        tuple(f"{zone}/energy_uj" for zone in zones),
        tuple(number(root, f"{zone}/max_energy_range_uj") or 0 for zone in zones),
    )


def _sockets(root: Path) -> Counter | None:
    for monitor in matches(root, MONITORS):
        if text(root, f"{monitor}/name") != "amd_energy":
            continue
        labels = matches(root, f"{monitor}/energy*_label")
        files = [label for label in labels if (text(root, label) or "").startswith("Esocket")]
        if files:
            inputs = tuple(label.replace("_label", "_input") for label in files)
            return Counter("hwmon amd_energy", "processor sockets", inputs, (0,) * len(inputs))
    return None


def _supply(root: Path) -> Gauge | None:
    for monitor in matches(root, MONITORS):
        name = text(root, f"{monitor}/name") or ""
        if not name.startswith(POWER_MONITORS):
            continue
        for file in (f"{monitor}/power1_input", f"{monitor}/power1_average"):
            if number(root, file) is not None:
                return Gauge(f"hwmon {name}", "whole board", (file,), 1e-6)
        for label in matches(root, f"{monitor}/in*_label"):
            if text(root, label) in SUPPLY_LABELS:
                volts = label.replace("_label", "_input")
                amperes = volts.replace("/in", "/curr")
                return Gauge(f"hwmon {name} {text(root, label)}", "whole board", (volts, amperes), 1e-6)
    return None
