"""Call without a pause for minutes, and keep samples of each window: what a board does when it gets warm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from farm.domain.statistics.energy import EnergyRun
from farm.domain.statistics.sustained import SustainedRun, Window
from workers.stages.measure.timing import Clocks, take_sample

WINDOWS_MIN = 10
WINDOW_MAX_S = 10.0
SAMPLES_PER_WINDOW = 200
"""Samples kept of a window; of more, evenly spaced ones."""


def run_on(
    call: Callable[[], object],
    duration_s: float,
    *,
    clocks: Clocks | None = None,
    now_s: Callable[[], float] = time.monotonic,
) -> SustainedRun:
    """Call for so many seconds; windows last 10 s, or a tenth of a shorter run."""
    clocks = clocks or Clocks()
    window_s = min(WINDOW_MAX_S, duration_s / WINDOWS_MIN)
    started_s, started_ns = now_s(), clocks.wall_ns()
    windows = []
    for number in range(max(WINDOWS_MIN, round(duration_s / window_s))):
        end_ns = started_ns + round((number + 1) * window_s * 1e9)
        times: list[float] = []
        while clocks.wall_ns() < end_ns:
            times.append(take_sample(call, 1, clocks).wall_us)
        windows.append(Window(number * window_s, tuple(times[:: max(1, math.ceil(len(times) / SAMPLES_PER_WINDOW))])))
    return SustainedRun(started_s, window_s, tuple(windows))


def run_for(call: Callable[[], object], duration_s: float, *, now_s: Callable[[], float] = time.monotonic) -> EnergyRun:
    """Call for so many seconds, and count."""
    started_s = now_s()
    calls = 0
    while (ended_s := now_s()) - started_s < duration_s:
        call()
        calls += 1
    return EnergyRun(started_s, ended_s, calls)
