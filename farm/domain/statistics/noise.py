"""A host's noise floor: how much two measurements of the same thing may differ there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from farm.domain.statistics.intervals import student_t

FLOOR_MIN = 0.03
"""No smaller change is ever told: repeats of one file on a quiet host agreed within 3.5 % (three processes each)."""


def noise_floor(medians: Sequence[float]) -> float | None:
    """Give the 95 % bound on the difference of two A/A measurements like this one, as a ratio; None of one process.

    Args:
        medians: of the reference model's processes, the same work each time.

    Source: the two-sample t interval, on logarithms: t(2k − 2) · s · sqrt(2 / k).
    """
    if len(medians) < 2:
        return None
    count = len(medians)
    deviation = statistics.stdev(math.log(median) for median in medians)
    return math.expm1(student_t(2 * count - 2) * deviation * math.sqrt(2 / count))
