"""Measurements of a host whose noise is known: levels of processes, one common drift, interruptions by other work."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from farm.domain.measurement import ProcessRun, summarize
from farm.domain.statistics.change import Measured

SLICE_US = 4000.0
"""What an interrupted call waits for: a time slice of Linux's scheduler."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How a host disturbs what it measures; ratios are standard deviations on a logarithmic scale.

    Attributes:
        process: of one process against another (memory layout, clocks).
        drift: of the whole host between two measurements, alike for every model.
        sample: of one call against another.
        interrupted: the share of calls that other work interrupts.
    """

    process: float = 0.01
    drift: float = 0.0
    sample: float = 0.02
    interrupted: float = 0.0


QUIET = Noise()
DRIFTING = Noise(process=0.015, drift=0.04)
LOADED = Noise(process=0.027, drift=0.04, sample=0.05, interrupted=0.5)
"""Two cores under a load average of 8, as recorded: processor time divided by the reference's varied by 3.9 %."""


def measured(
    generator: random.Random, noise: Noise, *, factor: float = 1.0, processes: int = 3, samples: int = 40
) -> Measured:
    """Draw one measurement beside its reference; calls take 2 ms of work times `factor`, the reference's 4.4 ms."""
    shift = generator.gauss(0, noise.drift)
    own = [_process(generator, noise, math.log(2000 * factor) + shift, samples) for _ in range(processes)]
    reference = [_process(generator, noise, math.log(4400) + shift, samples) for _ in range(processes)]
    return Measured(
        times=[wall for wall, _ in own],
        cpu_times=[cpu for _, cpu in own],
        references=[wall for wall, _ in reference],
        reference_cpu_times=[cpu for _, cpu in reference],
        is_valid=noise.interrupted == 0.0,
    )


def _process(generator: random.Random, noise: Noise, level: float, samples: int) -> tuple[list[float], list[float]]:
    level += generator.gauss(0, noise.process)
    cpu = [math.exp(level + abs(generator.gauss(0, noise.sample))) for _ in range(samples)]
    wall = [time + SLICE_US * generator.randint(1, 4) * (generator.random() < noise.interrupted) for time in cpu]
    return wall, cpu


def summary_of(one: Measured, **changes: Any) -> dict[str, Any]:
    """Give the report's execution_summary of a measurement."""
    return summarize(_runs(one.times, one.cpu_times), _runs(one.references, one.reference_cpu_times)) | changes


def _runs(times: Any, cpu_times: Any) -> list[ProcessRun]:
    return [
        ProcessRun(
            times_us=tuple(wall),
            first_load_us=20_000.0 + 100 * index,
            warm_load_us=9_000.0 + 100 * index,
            first_inference_us=3_000.0 + 10 * index,
            peak_memory_bytes=30_000_000,
            threads=1,
            cpu_times_us=tuple(cpu),
        )
        for index, (wall, cpu) in enumerate(zip(times, cpu_times, strict=True))
    ]
