"""Measured times: what a process reports, what is computed from it, and when it can't be believed.

Times are microseconds, memory is bytes. Every statistic is computed from the samples that are stored, so anyone can
compute it again. The unit of repetition is the process: samples of one process share its memory layout and its clocks,
so intervals and comparisons rest on the spread between processes, not on the number of calls.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from farm.domain.errors import BadMeasurement

MAX_STORED_SAMPLES = 1000
"""Samples kept of one process; of more, every n-th in time order, which keeps drift and modes visible."""
MIN_PROCESSES = 3
SAMPLES_BEYOND = 3
"""A percentile is given when at least so many samples lie above it."""
RESAMPLES = 2000
_NORMAL_QUANTILE = 1.959964


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """What one fresh process measured.

    Attributes:
        times_us: microseconds per inference, in the order they were taken, without warm-up.
        first_load_us: opening the model, first time in this process.
        warm_load_us: opening it again in the same process.
        first_inference_us: the first call, which warm-up and the samples leave out.
        peak_memory_bytes: highest resident memory; best taken in a process that measures nothing else.
        batch: calls timed together for one sample (very fast models); each sample is their mean.
    """

    times_us: tuple[float, ...]
    first_load_us: float
    warm_load_us: float | None
    first_inference_us: float
    peak_memory_bytes: int | None
    threads: int
    batch: int = 1

    @property
    def median_us(self) -> float:
        return statistics.median(self.times_us)


class Change(StrEnum):
    """How a candidate's time relates to an earlier one."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    INCONCLUSIVE = "inconclusive"


def summarize(
    runs: Sequence[ProcessRun], references: Sequence[ProcessRun] = (), memory: Sequence[int] = ()
) -> dict[str, Any]:
    """Compute the report's execution_summary.

    p50, p90, p99 are percentiles over the stored samples of all processes, interpolated linearly; the estimated
    inference time is p50 under the field's name. (Processes take equally many samples, so each weighs the same; whether
    they agree is `stability`'s question.) ci95 is p50's, see `median_interval`. p99 is None with fewer than 300
    samples, or when a sample is a mean of several calls.

    Args:
        runs: one per process.
        references: the pinned reference model's runs, alternated with these.
        memory: peak resident bytes of the separate memory pass; without it, what the timed processes reported.

    Raises:
        BadMeasurement: no runs, or values that no clock gives; all of them named.
    """
    _refuse_nonsense(runs, references, memory)
    kept = [thinned(run.times_us) for run in runs]
    pooled = sorted(time for times in kept for time in times)
    peaks = list(memory) or [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    warm = [run.warm_load_us for run in runs if run.warm_load_us is not None]
    p50 = percentile(pooled, 50)
    return {
        "scenario": "single_stream",
        "threads": runs[0].threads,
        "estimated_inference_time": p50,
        "p50": p50,
        "p90": percentile(pooled, 90),
        "p99": _tail(pooled, 99) if runs[0].batch == 1 else None,
        "ci95": list(median_interval(kept)),
        "first_load_time": statistics.median(run.first_load_us for run in runs),
        "warm_load_time": statistics.median(warm) if warm else None,
        "first_inference_us": statistics.median(run.first_inference_us for run in runs),
        **({"inference_memory_peak_range": [min(peaks), max(peaks)]} if peaks else {}),
        "all_inference_times": [list(times) for times in kept],
        "samples_taken": [len(run.times_us) for run in runs],
        "calls_per_sample": runs[0].batch,
        "process_spread_ratio": spread([run.median_us for run in runs]),
        "reference_median_us": statistics.median(run.median_us for run in references) if references else None,
        "reference_spread_ratio": spread([run.median_us for run in references]) if references else None,
    }


def stability(
    runs: Sequence[ProcessRun],
    references: Sequence[ProcessRun] = (),
    *,
    spread_max: float = 0.1,
    drift_max: float = 0.1,
) -> list[str]:
    """Tell whether independent processes agree: the reasons of `conditions` that hold, none when all is well.

    `unstable`: the processes' medians differ by more than `spread_max` of their median, or they are fewer than three.
    `reference-drift`: the reference model, the same work each time, differs by more than `drift_max`, so the host did.
    """
    reasons = []
    if len(runs) < MIN_PROCESSES or spread([run.median_us for run in runs]) > spread_max:
        reasons.append("unstable")
    if references and spread([run.median_us for run in references]) > drift_max:
        reasons.append("reference-drift")
    return reasons


def versus_float(candidate: Mapping[str, Any] | None, baseline: Mapping[str, Any] | None) -> float | None:
    """Give the speed relative to the float32 artifact of the same runtime: above 1 is faster. None without both."""
    if candidate is None or baseline is None:
        return None
    return float(baseline["estimated_inference_time"]) / float(candidate["estimated_inference_time"])


def compare(before: Sequence[ProcessRun], after: Sequence[ProcessRun], floor: float) -> Change:
    """Decide whether `after` is slower or faster than `before`, or neither can be said.

    Welch's t-test (two-sided, 5 %) on the logarithms of the processes' medians; a change must also exceed the floor.

    Args:
        before: two or more processes of the earlier candidate.
        after: two or more processes of the later one.
        floor: the host's noise floor, as a ratio (0.03 is 3 %), from A/A runs of the reference model.

    Raises:
        BadMeasurement: a side has fewer than two processes, or nonsense in it.
    """
    for side in (before, after):
        _refuse_nonsense(side, (), ())
        if len(side) < 2:
            raise BadMeasurement("A comparison needs two independent processes on each side; one side has 1.")
    logs = [[math.log(run.median_us) for run in side] for side in (before, after)]
    change = statistics.fmean(logs[1]) - statistics.fmean(logs[0])
    variances = [statistics.variance(values) / len(values) for values in logs]
    margin = _student_t(_welch_freedom(variances, [len(values) for values in logs])) * math.sqrt(sum(variances))
    if abs(change) <= max(margin, math.log1p(floor)):
        return Change.INCONCLUSIVE
    return Change.REGRESSED if change > 0 else Change.IMPROVED


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Interpolate linearly between the neighbouring samples, as NumPy's default does. `ordered` ascends."""
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def spread(medians: Sequence[float]) -> float:
    """Give (highest − lowest) / median."""
    return (max(medians) - min(medians)) / statistics.median(medians)


def thinned(times: Sequence[float]) -> tuple[float, ...]:
    """Keep every n-th sample, so that at most MAX_STORED_SAMPLES remain."""
    return tuple(times[:: math.ceil(len(times) / MAX_STORED_SAMPLES)])


def median_interval(per_process: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float]:
    """Bound the pooled median with 95 % confidence: resample processes, then samples, then widen for few processes.

    The median of a bootstrap sample of n values is their k-th order statistic at a rank drawn from Beta(k, n − k + 1),
    so no resample is written out. A bootstrap over k processes is too narrow by sqrt(k / (k − 1)) and knows nothing of
    Student's t, so its bounds are moved away from the median by both, on a logarithmic scale: 2.7 times for three.

    Source: David & Nagaraja, Order Statistics, section 2.1; Hesterberg, What Teachers Should Know About the Bootstrap,
    section 4.1 (the narrowness bias).
    """
    generator = random.Random(seed)  # noqa: S311 (statistics, not secrets)
    pools: dict[tuple[int, ...], list[float]] = {}
    medians = []
    for _ in range(RESAMPLES):
        chosen = tuple(sorted(generator.choices(range(len(per_process)), k=len(per_process))))
        if chosen not in pools:
            pools[chosen] = sorted(time for index in chosen for time in per_process[index])
        pool = pools[chosen]
        rank = (len(pool) + 1) / 2
        medians.append(pool[min(int(generator.betavariate(rank, rank) * len(pool)), len(pool) - 1)])
    medians.sort()
    middle = percentile(sorted(time for times in per_process for time in times), 50)
    low, high = min(percentile(medians, 2.5), middle), max(percentile(medians, 97.5), middle)
    widening = _small_number_widening(len(per_process))
    return middle * (low / middle) ** widening, middle * (high / middle) ** widening


def _small_number_widening(processes: int) -> float:
    if processes < 2:
        return 1.0
    return math.sqrt(processes / (processes - 1)) * _student_t(processes - 1) / _NORMAL_QUANTILE


def _tail(ordered: Sequence[float], percent: float) -> float | None:
    return percentile(ordered, percent) if len(ordered) * (100 - percent) >= SAMPLES_BEYOND * 100 else None


def _refuse_nonsense(runs: Sequence[ProcessRun], references: Sequence[ProcessRun], memory: Sequence[int]) -> None:
    problems = [] if runs else ["no process reported a run"]
    for label, group in (("process", runs), ("reference process", references)):
        for index, run in enumerate(group, start=1):
            problems += [f"{label} {index}: {problem}" for problem in _problems_of(run)]
        if len({(run.threads, run.batch) for run in group}) > 1:
            problems.append(f"{label}es differ in threads or batch")
    problems += [f"the memory pass reported {value!r} bytes" for value in memory if not _is_positive(value)]
    if problems:
        raise BadMeasurement(
            f"The host reported values that can't be measured: {'; '.join(problems)}.", problems=problems
        )


def _problems_of(run: ProcessRun) -> list[str]:
    problems = [] if run.times_us else ["no samples"]
    if bad := [time for time in run.times_us if not _is_positive(time)]:
        problems.append(f"{len(bad)} of {len(run.times_us)} times are not positive numbers, first {bad[0]!r}")
    for name in ("first_load_us", "warm_load_us", "first_inference_us", "peak_memory_bytes", "threads", "batch"):
        value = getattr(run, name)
        optional = name in ("warm_load_us", "peak_memory_bytes") and value is None
        if not (optional or _is_positive(value)):
            problems.append(f"{name} is {value!r}")
    return problems


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _welch_freedom(variances: Sequence[float], counts: Sequence[int]) -> float:
    total = sum(variances)
    if not total:
        return float(min(counts) - 1)
    return total**2 / sum(v**2 / (n - 1) for v, n in zip(variances, counts, strict=True))


def _student_t(freedom: float) -> float:
    """Give the two-sided 5 % quantile. Source: Abramowitz & Stegun 26.7.5 (expansion), exact for 1 and 2."""
    if freedom < 2:
        return 12.706
    if freedom < 3:
        return 4.303
    z = _NORMAL_QUANTILE
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / freedom + g2 / freedom**2 + g3 / freedom**3
