"""When enough independent processes were measured: a rule that stops early, and a budget that ends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from farm.domain.statistics.intervals import median_interval


class Ending(StrEnum):
    """Why no further process was started."""

    NARROW = "narrow"
    PROCESSES = "processes"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class StabilityRule:
    """Measure until the median's 95 % interval is narrow, or the budget is spent.

    With the interval of each side within 5 % of its median, a change of 10 % between two measurements exceeds the
    interval of their difference, which is about 1.4 times as wide.

    Attributes:
        interval_ratio: (high − low) / median at which it is narrow enough.
        processes_min: independent processes that are run in any case.
        processes_max: and at most so many.
        budget_s: no further process is started after so many seconds.
    """

    interval_ratio: float = 0.05
    processes_min: int = 3
    processes_max: int = 9
    budget_s: float = 45.0

    def ending(self, per_process: Sequence[Sequence[float]], elapsed_s: float) -> Ending | None:
        """Say why to stop now, or None to go on.

        Args:
            per_process: the samples so far, those that will be kept.
            elapsed_s: since the first process was started.
        """
        if len(per_process) < self.processes_min:
            return None
        if interval_ratio(median_interval(per_process)) <= self.interval_ratio:
            return Ending.NARROW
        if len(per_process) >= self.processes_max:
            return Ending.PROCESSES
        return Ending.TIME if elapsed_s >= self.budget_s else None


def interval_ratio(interval: tuple[float, float]) -> float:
    """Give an interval's width as a share of its geometric middle, which is where the median lies as a rule."""
    low, high = interval
    return (high - low) / math.sqrt(low * high)
