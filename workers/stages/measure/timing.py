"""Time calls in one process: warm-up, batches of very short calls, samples until enough."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

SAMPLE_MIN_US = 50.0
"""A sample lasts at least about this long: clock and call cost tens of nanoseconds, the scheduler microseconds."""
MAX_BATCH = 4096
MAX_SAMPLES = 100_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: at least `min_runs` samples and `min_s` seconds, at most `max_s` seconds.

    `batch` calls make one sample; 0 chooses.
    """

    warmup_runs: int = 3
    min_runs: int = 50
    min_s: float = 1.0
    max_s: float = 30.0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Timed:
    """Microseconds per call: the first call, and each sample's mean over `batch` calls."""

    first_us: float
    times_us: tuple[float, ...]
    batch: int


def time_calls(
    call: Callable[[], object], effort: Effort, *, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> Timed:
    """Measure `call` with the garbage collector off.

    Very short calls are batched: where the fastest warm-up call lasts under 50 µs, a sample is the mean of the
    smallest power of two of calls that reaches it, so that runs of one model agree on the batch.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        first_us = _sample(call, 1, clock_ns)
        warm = [_sample(call, 1, clock_ns) for _ in range(max(1, effort.warmup_runs))]
        batch = effort.batch or batch_for(min(warm))
        return Timed(first_us, _samples(call, effort, batch, clock_ns), batch)
    finally:
        if collecting:
            gc.enable()


def batch_for(call_us: float) -> int:
    """Return how many calls of so many microseconds make one sample: 1, or a power of two."""
    if call_us >= SAMPLE_MIN_US:
        return 1
    return min(MAX_BATCH, 1 << math.ceil(math.log2(SAMPLE_MIN_US / max(call_us, 0.01))))


def _samples(call: Callable[[], object], effort: Effort, batch: int, clock_ns: Callable[[], int]) -> tuple[float, ...]:
    times: list[float] = []
    started = clock_ns()
    while len(times) < MAX_SAMPLES:
        times.append(_sample(call, batch, clock_ns))
        elapsed_s = (clock_ns() - started) / 1e9
        if elapsed_s >= effort.max_s or (elapsed_s >= effort.min_s and len(times) >= effort.min_runs):
            break
    return tuple(times)


def _sample(call: Callable[[], object], batch: int, clock_ns: Callable[[], int]) -> float:
    """Return microseconds per call, never zero."""
    started = clock_ns()
    for _ in range(batch):
        call()
    return max(clock_ns() - started, 1) / 1000 / batch
