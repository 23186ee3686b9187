"""How a model runs when it runs on and on: windows of time, when it became slower, and what speed is left."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from farm.domain.statistics.quantiles import percentile

SLOWER_RATIO = 1.1
"""A window this much slower than the first ones is throttled, when all later ones together are as well."""
FIRST_WINDOWS = 3
STEADY_SHARE = 1 / 3
"""The last part of a run that counts as its steady state."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a sustained run: samples in microseconds from `start_s` after its beginning on."""

    start_s: float
    times_us: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SustainedRun:
    """What one process measured without a pause.

    Attributes:
        started_s: when it began, on the machine's monotonic clock.
        window_s: length of each window.
    """

    started_s: float
    window_s: float
    windows: tuple[Window, ...]


Readings = Sequence[tuple[float, float]]
"""(monotonic seconds, value) as the host's watch read them."""


def sustained(run: SustainedRun, temperatures: Readings = (), clock_ratios: Readings = ()) -> dict[str, Any]:
    """Summarize a sustained run, in the report's words.

    `time_to_throttle_s` is the start of the first window whose p50 exceeds that of the first three by 10 %, when the
    median of all windows from there on does so too; None while it never does. `steady_state_ratio` is the first three
    windows' p50 over that of the last third: 1 is no loss, 0.7 means 30 % of the speed is gone.

    Args:
        run: its windows, in order; empty ones are left out.
        temperatures: of the processor, °C.
        clock_ratios: the lowest clock as a share of what it should reach.
    """
    windows = [window for window in run.windows if window.times_us]
    medians = [percentile(sorted(window.times_us), 50) for window in windows]
    first = statistics.median(medians[:FIRST_WINDOWS])
    steady = statistics.median(medians[-max(1, round(len(medians) * STEADY_SHARE)) :])
    throttled_at = _throttled_at(medians, first)
    return {
        "duration_s": run.window_s * len(run.windows),
        "window_s": run.window_s,
        "windows": [
            {
                "start_s": window.start_s,
                "p50": median,
                "p90": percentile(sorted(window.times_us), 90),
                "temperature_c": max(_within(run, window, temperatures), default=None),
                "clock_ratio": min(_within(run, window, clock_ratios), default=None),
                "times_us": list(window.times_us),
            }
            for window, median in zip(windows, medians, strict=True)
        ],
        "time_to_throttle_s": None if throttled_at is None else windows[throttled_at].start_s,
        "steady_state_ratio": first / steady,
    }


def _throttled_at(medians: Sequence[float], first: float) -> int | None:
    limit = SLOWER_RATIO * first
    slow = (at for at, median in enumerate(medians) if median > limit and statistics.median(medians[at:]) > limit)
    return next(slow, None)


def _within(run: SustainedRun, window: Window, readings: Readings) -> list[float]:
    start_s = run.started_s + window.start_s
    return [value for at_s, value in readings if start_s <= at_s < start_s + run.window_s]
