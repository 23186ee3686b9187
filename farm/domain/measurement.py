"""Measured times: what a process reports, what is computed from it, and when it can't be believed.

Times are microseconds, memory is bytes. Every statistic is computed from samples that are stored beside it, so anyone
can compute it again: `farm recompute` does. The arithmetic is in farm/domain/statistics.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farm.domain.errors import BadMeasurement
from farm.domain.scenario import Asked, figures
from farm.domain.statistics.intervals import median_interval, percentile_intervals
from farm.domain.statistics.noise import noise_floor
from farm.domain.statistics.quantiles import PERCENTILES, alike, is_told, percentiles, spread
from farm.domain.statistics.shape import shape
from farm.domain.statistics.stability import Ending, StabilityRule, interval_ratio

MIN_PROCESSES = 3


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
        cpu_times_us: processor time of the same samples, all threads together; empty where it was not taken.
        samples: inferences made for the times.
        elapsed_s: how long all of them took, waiting included, where that is a result (offline, server).
        pss_bytes: the process's share of memory, pages that others use too divided among them.
    """

    times_us: tuple[float, ...]
    first_load_us: float
    warm_load_us: float | None
    first_inference_us: float
    peak_memory_bytes: int | None
    threads: int
    batch: int = 1
    cpu_times_us: tuple[float, ...] = ()
    samples: int | None = None
    elapsed_s: float | None = None
    pss_bytes: int | None = None

    @property
    def median_us(self) -> float:
        return statistics.median(self.times_us)


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a measurement took no further process."""

    rule: StabilityRule
    ending: Ending
    elapsed_s: float


def summarize(
    runs: Sequence[ProcessRun],
    references: Sequence[ProcessRun] = (),
    memory: Sequence[int] = (),
    *,
    ended: Ended | None = None,
    asked: Asked | None = None,
) -> dict[str, Any]:
    """Compute the report's execution_summary.

    p50, p90, p99, p999 are percentiles over the stored samples of all processes, interpolated linearly; the estimated
    inference time is p50 under the field's name. (Of each process equally many samples are stored, so each weighs the
    same; whether they agree is `instability`'s question.) `intervals` holds each one's 95 % interval, ci95 that of p50.
    A tail is None where fewer than three samples lie beyond it (p99: 300 samples, p999: 3000), or when a sample is a
    mean of several calls.

    Args:
        runs: one per process.
        references: the pinned reference model's runs, alternated with these.
        memory: peak resident bytes of the separate memory pass; without it, what the timed processes reported.
        ended: by which rule the number of processes came about.
        asked: the scenario; single_stream without. Latencies are then of its queries.

    Raises:
        BadMeasurement: no runs, or values that no clock gives; all of them named.
    """
    refuse_nonsense(runs, references, memory)
    kept = alike([run.times_us for run in runs])
    told = _latencies(kept, runs[0].batch)
    return {
        **figures(asked or Asked(), [(run.samples, run.elapsed_s) for run in runs], told["p99"]),
        "threads": runs[0].threads,
        **told,
        "all_inference_times": [list(times) for times in kept],
        **_cpu_times("all_inference_cpu_times_us", runs),
        "samples_taken": [len(run.times_us) for run in runs],
        "calls_per_sample": runs[0].batch,
        "distribution": shape(kept),
        "process_spread_ratio": spread([statistics.median(times) for times in kept]),
        **_loads(runs),
        **_memory(runs, memory),
        **_references(references),
        **(_ended(ended, told["ci95"]) if ended else {}),
    }


def _latencies(kept: Sequence[Sequence[float]], batch: int) -> dict[str, Any]:
    """Give the percentiles of the stored samples, each with its interval where enough samples lie beyond it."""
    pooled = sorted(time for times in kept for time in times)
    told = percentiles(pooled, batch)
    bounded = {name: PERCENTILES[name] for name in PERCENTILES if is_told(name, len(pooled), batch)}
    intervals = percentile_intervals(kept, bounded)
    return {
        "estimated_inference_time": told["p50"],
        **told,
        "ci95": list(intervals["p50"]),
        "intervals": {name: list(intervals[name]) if name in intervals else None for name in PERCENTILES},
    }


def _cpu_times(name: str, runs: Sequence[ProcessRun]) -> dict[str, Any]:
    """Tell the processor time of each stored sample, when every process took it."""
    if not runs or any(len(run.cpu_times_us) != len(run.times_us) for run in runs):
        return {}
    return {name: [list(times) for times in alike([run.cpu_times_us for run in runs])]}


def _loads(runs: Sequence[ProcessRun]) -> dict[str, Any]:
    warm = [run.warm_load_us for run in runs if run.warm_load_us is not None]
    return {
        "first_load_time": statistics.median(run.first_load_us for run in runs),
        "warm_load_time": statistics.median(warm) if warm else None,
        "first_inference_us": statistics.median(run.first_inference_us for run in runs),
        "first_load_times_us": [run.first_load_us for run in runs],
        "warm_load_times_us": warm,
        "first_inference_times_us": [run.first_inference_us for run in runs],
    }


def _memory(runs: Sequence[ProcessRun], memory: Sequence[int]) -> dict[str, Any]:
    peaks = list(memory) or [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    return {"inference_memory_peak_range": [min(peaks), max(peaks)]} if peaks else {}


def _references(references: Sequence[ProcessRun]) -> dict[str, Any]:
    """Tell of the reference model: its samples in the order of the processes they were alternated with."""
    kept = alike([run.times_us for run in references])
    medians = [statistics.median(times) for times in kept]
    return {
        "all_reference_times_us": [list(times) for times in kept],
        **_cpu_times("all_reference_cpu_times_us", references),
        "reference_median_us": statistics.median(medians) if medians else None,
        "reference_spread_ratio": spread(medians) if medians else None,
        "noise_floor_ratio": noise_floor(medians),
    }


def _ended(ended: Ended, interval: Sequence[float]) -> dict[str, Any]:
    return {
        "stability": {
            "ended_by": ended.ending.value,
            "interval_ratio": interval_ratio((interval[0], interval[1])),
            "wanted_interval_ratio": ended.rule.interval_ratio,
            "processes_max": ended.rule.processes_max,
            "budget_s": ended.rule.budget_s,
            "elapsed_s": ended.elapsed_s,
        }
    }


def instability(
    runs: Sequence[ProcessRun],
    references: Sequence[ProcessRun] = (),
    *,
    spread_max: float = 0.1,
    drift_max: float = 0.1,
) -> list[str]:
    """Tell whether independent processes agree: the reasons of `conditions` that hold, none when all is well.

    `unstable`: fewer than three processes; or their medians differ by more than `spread_max` of their median, and
    their number does not make up for it: the median's interval is wider than that as well.
    `reference-drift`: the reference model, the same work each time, differs by more than `drift_max`, so the host did;
    again neither by its spread nor by its interval may it be called steady.
    """
    reasons = []
    if len(runs) < MIN_PROCESSES or not _agree(runs, spread_max):
        reasons.append("unstable")
    if references and not _agree(references, drift_max):
        reasons.append("reference-drift")
    return reasons


def _agree(runs: Sequence[ProcessRun], limit: float) -> bool:
    if spread([run.median_us for run in runs]) <= limit:
        return True
    return (
        len(runs) >= MIN_PROCESSES and interval_ratio(median_interval(alike([run.times_us for run in runs]))) <= limit
    )


def versus_float(candidate: Mapping[str, Any] | None, baseline: Mapping[str, Any] | None) -> float | None:
    """Give the speed relative to the float32 artifact of the same runtime: above 1 is faster. None without both."""
    if candidate is None or baseline is None:
        return None
    return float(baseline["estimated_inference_time"]) / float(candidate["estimated_inference_time"])


def refuse_nonsense(
    runs: Sequence[ProcessRun], references: Sequence[ProcessRun] = (), memory: Sequence[int] = ()
) -> None:
    """See that every reported value is one that a clock or a kernel gives.

    Raises:
        BadMeasurement: some are not; all of them named.
    """
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
    if any(not math.isfinite(time) or time < 0 for time in run.cpu_times_us):
        problems.append("processor times are not all finite and positive")
    for name in ("first_load_us", "warm_load_us", "first_inference_us", "peak_memory_bytes", "threads", "batch"):
        value = getattr(run, name)
        optional = name in ("warm_load_us", "peak_memory_bytes") and value is None
        if not (optional or _is_positive(value)):
            problems.append(f"{name} is {value!r}")
    return problems


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
