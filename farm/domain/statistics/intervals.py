"""95 % confidence intervals over independent processes, seeded: equal samples give equal intervals."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import cache

from farm.domain.statistics.quantiles import percentile

RESAMPLES = 1000
SEED = 0
_NORMAL_QUANTILE = 1.959964


def percentile_intervals(
    per_process: Sequence[Sequence[float]], percents: Mapping[str, float], seed: int = SEED
) -> dict[str, tuple[float, float]]:
    """Bound pooled percentiles with 95 % confidence by a hierarchical bootstrap: processes first, then samples.

    A percentile of a bootstrap sample of n values is their k-th order statistic at a rank drawn from
    Beta(k, n − k + 1), so no resample is written out. A bootstrap over k processes is too narrow by sqrt(k / (k − 1))
    and knows nothing of Student's t, so its bounds are moved away from the percentile by both, on a logarithmic scale:
    2.7 times for three processes.

    The draws of Python's Mersenne Twister, seeded anew for each percentile: per resample `choices` of as many
    processes as there are, then one `betavariate`. farm/domain/statistics/recomputation.py follows this text.

    Args:
        per_process: samples of each process, every one positive; as many as were taken, none empty.
        percents: name -> percent.
        seed: of the generator.

    Source: David & Nagaraja, Order Statistics, section 2.1; Hesterberg, What Teachers Should Know About the Bootstrap,
    section 4.1 (the narrowness bias); Davison & Hinkley, Bootstrap Methods and their Application, section 3.8
    (hierarchical data).
    """
    runs = [sorted(times) for times in per_process]
    pool_of = cache(lambda chosen: sorted(time for index in chosen for time in runs[index]))
    intervals = {}
    for name, percent in percents.items():
        generator = random.Random(seed)  # noqa: S311 (statistics, not secrets)
        drawn = []
        for _ in range(RESAMPLES):
            pool = pool_of(tuple(sorted(generator.choices(range(len(runs)), k=len(runs)))))
            rank = percent / 100 * (len(pool) - 1) + 1
            drawn.append(pool[min(int(generator.betavariate(rank, len(pool) - rank + 1) * len(pool)), len(pool) - 1)])
        intervals[name] = _widened(sorted(drawn), percentile(pool_of(tuple(range(len(runs)))), percent), len(runs))
    return intervals


def median_interval(per_process: Sequence[Sequence[float]], seed: int = SEED) -> tuple[float, float]:
    return percentile_intervals(per_process, {"p50": 50.0}, seed)["p50"]


def student_t(freedom: float) -> float:
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


def _widened(drawn: Sequence[float], middle: float, processes: int) -> tuple[float, float]:
    low, high = min(percentile(drawn, 2.5), middle), max(percentile(drawn, 97.5), middle)
    widening = _small_number_widening(processes)
    return middle * (low / middle) ** widening, middle * (high / middle) ** widening


def _small_number_widening(processes: int) -> float:
    if processes < 2:
        return 1.0
    return math.sqrt(processes / (processes - 1)) * student_t(processes - 1) / _NORMAL_QUANTILE
