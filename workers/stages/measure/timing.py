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
    """Microseconds per call: the first call, and each sample's mean over `batch` calls.

    `cpu_times_us` is the processor time of the same samples, all threads of the process together: it leaves out the
    time in which other work had the cores.
    """

    first_us: float
    times_us: tuple[float, ...]
    cpu_times_us: tuple[float, ...]
    batch: int


@dataclass(frozen=True, slots=True)
class Clocks:
    """What calls are timed by, in nanoseconds: the wall's clock, and the processor time of this process."""

    wall_ns: Callable[[], int] = time.perf_counter_ns
    cpu_ns: Callable[[], int] = time.process_time_ns


@dataclass(frozen=True, slots=True)
class Sample:
    """Microseconds per call; the wall's are never zero."""

    wall_us: float
    cpu_us: float


def time_calls(call: Callable[[], object], effort: Effort, *, clocks: Clocks | None = None) -> Timed:
    """Measure `call` with the garbage collector off.

    Very short calls are batched: where the fastest warm-up call lasts under 50 µs, a sample is the mean of the
    smallest power of two of calls that reaches it, so that runs of one model agree on the batch.
    """
    clocks = clocks or Clocks()
    collecting = gc.isenabled()
    gc.disable()
    try:
        first_us = take_sample(call, 1, clocks).wall_us
        warm = [take_sample(call, 1, clocks).wall_us for _ in range(max(1, effort.warmup_runs))]
        batch = effort.batch or batch_for(min(warm))
        samples = _samples(call, effort, batch, clocks)
        return Timed(first_us, tuple(s.wall_us for s in samples), tuple(s.cpu_us for s in samples), batch)
    finally:
        if collecting:
            gc.enable()


def batch_for(call_us: float) -> int:
    """Return how many calls of so many microseconds make one sample: 1, or a power of two."""
    if call_us >= SAMPLE_MIN_US:
        return 1
    return min(MAX_BATCH, 1 << math.ceil(math.log2(SAMPLE_MIN_US / max(call_us, 0.01))))


def take_sample(call: Callable[[], object], batch: int, clocks: Clocks) -> Sample:
    """Time so many calls together."""
    cpu_ns = clocks.cpu_ns()
    started_ns = clocks.wall_ns()
    for _ in range(batch):
        call()
    wall_ns = clocks.wall_ns() - started_ns
    cpu_ns = clocks.cpu_ns() - cpu_ns
    return Sample(max(wall_ns, 1) / 1000 / batch, cpu_ns / 1000 / batch)


def _samples(call: Callable[[], object], effort: Effort, batch: int, clocks: Clocks) -> list[Sample]:
    samples: list[Sample] = []
    started_ns = clocks.wall_ns()
    while len(samples) < MAX_SAMPLES:
        samples.append(take_sample(call, batch, clocks))
        elapsed_s = (clocks.wall_ns() - started_ns) / 1e9
        if elapsed_s >= effort.max_s or (elapsed_s >= effort.min_s and len(samples) >= effort.min_runs):
            break
    return samples
