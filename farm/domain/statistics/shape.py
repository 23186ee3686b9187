"""The shape of measured times: whether they have two modes, and whether they drift while a process runs.

A median over two modes belongs to neither, and one over a drift depends on how long was measured: both are said.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

MODE_SAMPLES_MIN = 30
MODE_SHARE_MIN = 0.1
MODE_RATIO_MIN = 1.05
SEPARATION_MIN = 4.0
"""Ashman's D that two halves must reach: those of a normal distribution give 2.7, of a uniform one 3.5."""
DRIFT_RATIO_MIN = 1.05
DRIFT_SAMPLES_MIN = 12
DRIFT_CORRELATION_MIN = 0.3
DRIFT_DEVIATIONS = 3.0
"""A rank correlation with time beyond so many standard deviations of chance, 1 / sqrt(n − 1), is no chance."""
TRIMMED = 0.01


def shape(per_process: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Describe the times, in the report's words.

    `modes_us` are the medians of two modes, and `mode_shares` the samples of each; None for one mode. `drift_ratio` is
    the median over processes of (median of the last third / median of the first third). `named` holds "two-modes" and
    "drift" where they hold.

    Args:
        per_process: microseconds in the order they were taken, one sequence for each process.

    Source: Otsu 1979, A Threshold Selection Method (the split); Ashman, Bird & Zepf 1994, AJ 108 (the separation D);
    Spearman 1904 (the rank correlation).
    """
    modes = _modes(sorted(time for times in per_process for time in times))
    drifts, ratio = _drift(per_process)
    return {
        "modes_us": [level for level, _ in modes] if modes else None,
        "mode_shares": [share for _, share in modes] if modes else None,
        "drift_ratio": ratio,
        "named": [*(["two-modes"] if modes else []), *(["drift"] if drifts else [])],
    }


def _modes(ordered: Sequence[float]) -> list[tuple[float, float]] | None:
    """Split in two where the variance between both is largest; None unless both stand well apart."""
    cut = math.floor(len(ordered) * TRIMMED)
    kept = ordered[cut : len(ordered) - cut]
    if len(kept) < MODE_SAMPLES_MIN or kept[-1] <= kept[0]:
        return None
    levels = [math.log(time) for time in kept]
    at = _best_split(levels)
    low, high = kept[:at], kept[at:]
    shares = [len(side) / len(kept) for side in (low, high)]
    middles = [statistics.median(side) for side in (low, high)]
    if min(shares) < MODE_SHARE_MIN or middles[1] / middles[0] < MODE_RATIO_MIN:
        return None
    if _separation(levels[:at], levels[at:]) < SEPARATION_MIN:
        return None
    return list(zip(middles, shares, strict=True))


def _best_split(levels: Sequence[float]) -> int:
    count, total = len(levels), math.fsum(levels)
    sums = itertools.accumulate(levels[:-1])

    def between(at: int, below: float) -> float:
        return at * (count - at) * (below / at - (total - below) / (count - at)) ** 2

    return max(enumerate(sums, 1), key=lambda split: between(*split))[0]


def _separation(low: Sequence[float], high: Sequence[float]) -> float:
    spread = math.sqrt((statistics.pvariance(low) + statistics.pvariance(high)) / 2)
    distance = statistics.fmean(high) - statistics.fmean(low)
    return math.inf if spread == 0 else distance / spread


def _drift(per_process: Sequence[Sequence[float]]) -> tuple[bool, float | None]:
    """Tell whether most processes drift the same way, and by how much."""
    long_enough = [times for times in per_process if len(times) >= DRIFT_SAMPLES_MIN]
    if not long_enough:
        return False, None
    ratio = statistics.median(_last_to_first(times) for times in long_enough)
    correlation = statistics.median(_with_time(times) for times in long_enough)
    chance = DRIFT_DEVIATIONS / math.sqrt(min(map(len, long_enough)) - 1)
    beyond = abs(correlation) >= max(DRIFT_CORRELATION_MIN, chance) and correlation * math.log(ratio) > 0
    return beyond and abs(math.log(ratio)) >= math.log(DRIFT_RATIO_MIN), ratio


def _last_to_first(times: Sequence[float]) -> float:
    third = len(times) // 3
    return statistics.median(times[-third:]) / statistics.median(times[:third])


def _with_time(times: Sequence[float]) -> float:
    """Correlate the ranks of samples with their order; 0 of samples that are all alike."""
    ranks = _ranks(times)
    if len(set(ranks)) == 1:
        return 0.0
    return statistics.correlation(ranks, [float(at) for at in range(len(ranks))])


def _ranks(times: Sequence[float]) -> list[float]:
    """Rank from 0; equal samples share their mean rank."""
    order = sorted(range(len(times)), key=times.__getitem__)
    ranks = [0.0] * len(times)
    at = 0
    for _, group in itertools.groupby(order, key=times.__getitem__):
        equal = list(group)
        for index in equal:
            ranks[index] = at + (len(equal) - 1) / 2
        at += len(equal)
    return ranks
