"""Compute a report's statistics again from its raw samples, by independent code: `farm recompute`.

Nothing of ours is imported here, and nothing but the standard library: what this module and the first computation agree
on is right, or wrong twice in the same way. It follows the texts beside the first computation (which percentiles are
told, how intervals are drawn and widened), not its code.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROUNDING = 1e-9
"""Relative difference up to which two floating-point computations of one thing are the same."""
Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """A stored statistic that its samples do not give."""

    result: str
    field: str
    stored: Any
    computed: Any


def recompute(report: Mapping[str, Any]) -> tuple[list[Difference], int]:
    """Hold every statistic of a report against its samples. Returns: the differences, and how many were computed."""
    differences: list[Difference] = []
    count = 0
    for result in report["results"]:
        summary = result.get("execution_summary")
        if not summary:
            continue
        for field, stored, computed in _statistics_of(result, report["results"]):
            count += 1
            if not _same(stored, computed):
                differences.append(Difference(_name(result), field, stored, computed))
    return differences, count


def _statistics_of(result: Mapping[str, Any], results: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield field, stored value and computed value of whatever has its raw values beside it."""
    summary = result["execution_summary"]
    for field, computed in {**_percentiles(summary), **_of_lists(summary), **_of_reference(summary)}.items():
        if field in summary:
            yield field, summary[field], computed
    yield from _of_shape(summary)
    yield from _of_sweep(summary)
    yield from _of_sustained(summary)
    yield from _of_energy(summary)
    yield from _of_generation(summary)
    yield from _of_scenario(summary)
    if "stability" in summary:
        low, high = _interval(summary["all_inference_times"], 0.5)
        yield "stability.interval_ratio", summary["stability"]["interval_ratio"], (high - low) / math.sqrt(low * high)
    if (baseline := _baseline(result, results)) is not None:
        told = _level(baseline, result) / _level(result, baseline)
        yield "versus_float", summary.get("versus_float"), told


def _percentiles(summary: Summary) -> dict[str, Any]:
    runs = summary["all_inference_times"]
    pooled = list(heapq.merge(*map(sorted, runs)))
    wanted = {"p50": 0.5, "p90": 0.9}
    alone = summary.get("calls_per_sample", 1) == 1
    for name, share, needed in (("p99", 0.99, 300), ("p999", 0.999, 3000)):
        if alone and len(pooled) >= needed:
            wanted[name] = share
    values = {name: _quantile(pooled, share) for name, share in wanted.items()}
    names = ("p50", "p90", "p99", "p999")
    told: dict[str, Any] = {name: values.get(name) for name in names}
    told["estimated_inference_time"] = values["p50"]
    told["ci95"] = _interval(runs, 0.5)
    if "intervals" in summary:
        told["intervals"] = {name: _interval(runs, wanted[name]) if name in wanted else None for name in names}
    middles = [statistics.median(times) for times in runs]
    told["process_spread_ratio"] = (max(middles) - min(middles)) / statistics.median(middles)
    return told


def _of_lists(summary: Summary) -> dict[str, Any]:
    """Compute what is the median of a list that stands beside it."""
    lists = {
        "first_load_time": "first_load_times_us",
        "warm_load_time": "warm_load_times_us",
        "first_inference_us": "first_inference_times_us",
    }
    return {
        field: statistics.median(summary[raw]) if summary[raw] else None
        for field, raw in lists.items()
        if raw in summary
    }


def _of_reference(summary: Summary) -> dict[str, Any]:
    runs = summary.get("all_reference_times_us")
    if not runs:
        return {}
    middles = [statistics.median(times) for times in runs]
    told: dict[str, Any] = {
        "reference_median_us": statistics.median(middles),
        "reference_spread_ratio": (max(middles) - min(middles)) / statistics.median(middles),
        "noise_floor_ratio": None,
    }
    if (count := len(middles)) > 1:
        logs = [math.log(middle) for middle in middles]
        mean = sum(logs) / count
        deviation = math.sqrt(sum((value - mean) ** 2 for value in logs) / (count - 1))
        told["noise_floor_ratio"] = math.exp(_quantile_of_t(2 * count - 2) * deviation * math.sqrt(2 / count)) - 1
    return told


def _of_shape(summary: Summary) -> Iterator[tuple[str, Any, Any]]:
    """Compute the two modes, by the split with the least squares within, and the change from first to last third."""
    told = summary.get("distribution")
    if not told:
        return
    runs = summary["all_inference_times"]
    modes = _modes(sorted(itertools.chain.from_iterable(runs)))
    yield "distribution.modes_us", told["modes_us"], modes and modes[0]
    yield "distribution.mode_shares", told["mode_shares"], modes and modes[1]
    changes = [
        statistics.median(times[-(len(times) // 3) :]) / statistics.median(times[: len(times) // 3])
        for times in runs
        if len(times) >= 12
    ]
    yield "distribution.drift_ratio", told["drift_ratio"], statistics.median(changes) if changes else None


def _modes(pooled: Sequence[float]) -> tuple[list[float], list[float]] | None:
    """Give the medians of two modes and the share of samples in each; None of one mode."""
    cut = len(pooled) // 100
    kept = pooled[cut : len(pooled) - cut]
    if len(kept) < 30 or kept[0] == kept[-1]:
        return None
    logs = [math.log(time) for time in kept]
    sums, squares = ([0.0, *itertools.accumulate(values)] for values in (logs, (log * log for log in logs)))

    def scatter(start: int, end: int) -> float:
        return squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start)

    at = min(range(1, len(logs)), key=lambda split: scatter(0, split) + scatter(split, len(logs)))
    low, high = statistics.median(kept[:at]), statistics.median(kept[at:])
    variance = (scatter(0, at) / at + scatter(at, len(logs)) / (len(logs) - at)) / 2
    apart = (sums[-1] - sums[at]) / (len(logs) - at) - sums[at] / at
    even = min(at, len(logs) - at) >= 0.1 * len(logs)
    if not (even and high >= 1.05 * low and apart >= 4 * math.sqrt(max(variance, 0.0))):
        return None
    return [low, high], [at / len(kept), 1 - at / len(kept)]


def _of_sweep(summary: Summary) -> Iterator[tuple[str, Any, Any]]:
    for point in summary.get("threads_sweep") or ():
        if "all_inference_times" not in point:
            continue
        for field, computed in _percentiles(point).items():
            if field in point:
                yield f"threads_sweep.{point['threads']}.{field}", point[field], computed


def _of_sustained(summary: Summary) -> Iterator[tuple[str, Any, Any]]:
    """Compute every window, what speed is left, and when it fell by a tenth for good."""
    told = summary.get("sustained")
    if not told:
        return
    middles = []
    for window in told["windows"]:
        ordered = sorted(window["times_us"])
        middles.append(_quantile(ordered, 0.5))
        yield f"sustained.{window['start_s']:g}.p50", window["p50"], middles[-1]
        yield f"sustained.{window['start_s']:g}.p90", window["p90"], _quantile(ordered, 0.9)
    first = statistics.median(middles[:3])
    last = statistics.median(middles[len(middles) - max(1, round(len(middles) / 3)) :])
    yield "sustained.steady_state_ratio", told["steady_state_ratio"], first / last
    fell = None
    for at, middle in enumerate(middles):
        if min(middle, statistics.median(middles[at:])) > 1.1 * first:
            fell = told["windows"][at]["start_s"]
            break
    yield "sustained.time_to_throttle_s", told["time_to_throttle_s"], fell


def _of_generation(summary: Summary) -> Iterator[tuple[str, Any, Any]]:
    """Compute how soon the first token came, and how many of the further ones in a second."""
    told = summary.get("generation")
    if not told or "all_first_token_times" not in told:
        return
    yield (
        "generation.time_to_first_token",
        told["time_to_first_token"],
        statistics.median(told["all_first_token_times"]),
    )
    rates = [1e6 * len(times) / math.fsum(times) for times in told["all_token_times"] if times]
    yield "generation.tokens_per_second", told["tokens_per_second"], statistics.median(rates) if rates else None


def _of_scenario(summary: Summary) -> Iterator[tuple[str, Any, Any]]:
    """Compute the rate that was reached, and whether a server's tail kept its bound."""
    if rates := summary.get("samples_per_s_by_process"):
        yield "samples_per_s", summary["samples_per_s"], statistics.median(rates)
    if "met" in summary:
        tail, bound = _percentiles(summary)["p99"], summary["latency_bound_ms"]
        yield "met", summary["met"], None if tail is None or bound is None else tail <= 1000 * bound


def _of_energy(summary: Summary) -> Iterator[tuple[str, Any, Any]]:
    """Compute the energy of an inference from the meter's readings, the idle power taken off."""
    told = summary.get("energy")
    if not told or "readings_j" not in told:
        return
    (idle_from, idle_until), (began, ended) = told["idle_span_s"], told["run_span_s"]
    at = [_joules(told["readings_j"], moment) for moment in (idle_from, idle_until, began, ended)]
    idle = (at[1] - at[0]) / (idle_until - idle_from)
    yield "energy.idle_power_w", told["idle_power_w"], idle
    yield "energy.mean_power_w", told["mean_power_w"], (at[3] - at[2]) / (ended - began)
    own = at[3] - at[2] - idle * (ended - began)
    computed = 1000 * own / told["inferences"] if own > 0 else None
    yield "energy.energy_per_inference_mj", told["energy_per_inference_mj"], computed


def _joules(readings: Sequence[Sequence[float]], moment: float) -> float:
    """Read a broken line between the readings at a moment; before and after them it is level."""
    if moment <= readings[0][0]:
        return readings[0][1]
    for (left, low), (right, high) in itertools.pairwise(readings):
        if moment <= right:
            return low + (moment - left) / (right - left) * (high - low)
    return readings[-1][1]


def _interval(runs: Sequence[Sequence[float]], share: float) -> list[float]:
    """Draw processes, then a rank from the Beta distribution; widen on the logarithmic scale."""
    twister = random.Random(0)  # noqa: S311 (statistics, not secrets)
    count = len(runs)
    ordered = [sorted(times) for times in runs]
    made: dict[frozenset[tuple[int, int]], list[float]] = {}

    def pool(drawn: Iterable[int]) -> list[float]:
        times = Counter(drawn)
        key = frozenset(times.items())
        if key not in made:
            made[key] = list(heapq.merge(*(ordered[index] for index in times.elements())))
        return made[key]

    found = sorted(_drawn(pool(twister.choices(range(count), k=count)), share, twister) for _ in range(1000))
    middle = _quantile(pool(range(count)), share)
    bounds = min(_quantile(found, 0.025), middle), max(_quantile(found, 0.975), middle)
    factor = 1.0 if count < 2 else math.sqrt(count / (count - 1)) * _quantile_of_t(count - 1) / 1.959964
    return [math.exp(math.log(middle) + factor * (math.log(bound) - math.log(middle))) for bound in bounds]


def _drawn(pool: Sequence[float], share: float, twister: random.Random) -> float:
    size = len(pool)
    rank = share * (size - 1) + 1
    return pool[min(math.floor(size * twister.betavariate(rank, size + 1 - rank)), size - 1)]


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Interpolate between order statistics (type 7 of Hyndman & Fan 1996)."""
    fraction, whole = math.modf(share * (len(ordered) - 1))
    at = int(whole)
    if at + 1 >= len(ordered):
        return ordered[-1]
    return (1 - fraction) * ordered[at] + fraction * ordered[at + 1]


def _quantile_of_t(freedom: int) -> float:
    """Give Student's 97.5 % quantile: the tables' for 1 and 2, else Abramowitz & Stegun 26.7.5."""
    if freedom <= 2:
        return (12.706, 4.303)[freedom - 1]
    x = 1.959964
    terms = (
        (x**3 + x) / (4 * freedom),
        (5 * x**5 + 16 * x**3 + 3 * x) / (96 * freedom**2),
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * freedom**3),
    )
    return float(x + math.fsum(terms))


def _pooled_median(summary: Summary) -> float:
    return float(statistics.median(time for times in summary["all_inference_times"] for time in times))


def _level(result: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Give a result's median, as a multiple of the reference model's where another host measured the other."""
    summary = result["execution_summary"]
    hosts = {(one.get("conditions") or {}).get("host") for one in (result, other)}
    if len(hosts) == 1:
        return _pooled_median(summary)
    levels = [float(statistics.median(times)) for times in summary["all_reference_times_us"]]
    return _pooled_median(summary) / statistics.median(levels)


def _baseline(result: Mapping[str, Any], results: Sequence[Any]) -> Mapping[str, Any] | None:
    """Find the float32 result that a valid one is held against, when it is in the report."""
    if result["execution_summary"].get("versus_float") is None:
        return None
    wanted = _name({**result, "recipe": "float32"})
    return next((other for other in results if _name(other) == wanted and other.get("execution_summary")), None)


def _name(result: Mapping[str, Any]) -> str:
    return "/".join(str(result[part]) for part in ("model", "target", "target_runtime", "recipe"))


def _same(stored: Any, computed: Any) -> bool:
    if isinstance(computed, Mapping):
        return isinstance(stored, Mapping) and all(_same(stored.get(key), value) for key, value in computed.items())
    if isinstance(computed, (list, tuple)):
        return isinstance(stored, (list, tuple)) and len(stored) == len(computed) and all(map(_same, stored, computed))
    if isinstance(computed, (int, float)) and isinstance(stored, (int, float)):
        return math.isclose(stored, computed, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return bool(stored == computed)
