"""Percentiles of samples, and when there are too few samples for one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

MAX_STORED_SAMPLES = 1000
"""Samples kept of one process at most; evenly spaced ones in time order, which keeps drift and modes visible."""
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}
TAILS = ("p99", "p999")
"""Percentiles that are told only of enough samples; a median and a p90 are told of any."""
SAMPLES_BEYOND = 3
"""A tail is told when at least so many samples lie above it: 300 samples for p99, 3000 for p999."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Interpolate linearly between the neighbouring samples, as NumPy's default does. `ordered` ascends."""
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def is_told(name: str, samples: int, calls_per_sample: int = 1) -> bool:
    """Tell whether a percentile may be given: tails need samples beyond them, each of one call."""
    if name not in TAILS:
        return True
    beyond = samples * (100 - PERCENTILES[name]) / 100
    return calls_per_sample == 1 and beyond >= SAMPLES_BEYOND * (1 - 1e-9)


def percentiles(ordered: Sequence[float], calls_per_sample: int = 1) -> dict[str, float | None]:
    """Give p50, p90, p99 and p999; None where the samples are too few, or are means of several calls."""
    return {
        name: percentile(ordered, percent) if is_told(name, len(ordered), calls_per_sample) else None
        for name, percent in PERCENTILES.items()
    }


def spread(medians: Sequence[float]) -> float:
    """Give (highest − lowest) / median."""
    return (max(medians) - min(medians)) / statistics.median(medians)


def alike(per_process: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Keep equally many samples of each process, so that each weighs the same in what is pooled.

    As many as the process with the fewest has, at most MAX_STORED_SAMPLES.
    """
    kept = min((MAX_STORED_SAMPLES, *map(len, per_process)))
    return [tuple(times[place * len(times) // kept] for place in range(kept)) for times in per_process]
