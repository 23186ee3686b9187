"""Decide whether a later measurement of a model is slower or faster than an earlier one, or neither can be said.

Every process was run beside the pinned reference model, the same work each time. So what is compared is the time of
each process as a ratio of its reference's: what the host did to both cancels. On a loaded host even that is not enough,
since a call that other work interrupts lasts a whole time slice longer; there the processor time of the calls is
compared, at its lower quartile, which other work reaches only through caches and clocks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from farm.domain.errors import BadMeasurement
from farm.domain.statistics.intervals import student_t
from farm.domain.statistics.noise import FLOOR_MIN, noise_floor
from farm.domain.statistics.quantiles import percentile

PROCESSES_MIN = 2
QUARTILE = 25.0


class Change(StrEnum):
    """How a candidate's time relates to an earlier one."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    INCONCLUSIVE = "inconclusive"


class Basis(StrEnum):
    """What is compared: the median on the wall's clock, or the lower quartile of processor time on a loaded host."""

    WALL = "wall"
    PROCESSOR = "processor"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a comparison reads of one measurement: microseconds, one sequence per process, in the order they ran.

    Attributes:
        references: the reference model's samples, process for process beside `times`; empty where there were none.
        is_valid: its conditions allow its times to be believed.
    """

    times: Sequence[Sequence[float]]
    cpu_times: Sequence[Sequence[float]] = ()
    references: Sequence[Sequence[float]] = ()
    reference_cpu_times: Sequence[Sequence[float]] = ()
    is_valid: bool = True

    def on(self, basis: Basis) -> _Levels:
        if basis is Basis.PROCESSOR:
            percent, times, references = QUARTILE, self.cpu_times, self.reference_cpu_times
        else:
            percent, times, references = 50.0, self.times, self.references
        levels = [_level(one, percent) for one in times]
        beside = [_level(one, percent) for one in references] if len(references) == len(times) else []
        return _Levels(levels, beside)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was decided, and from what.

    Attributes:
        ratio: later / earlier; above 1 is slower.
        interval: the ratio's, 95 %.
        floor_ratio: no smaller change than 1 + this is told.
        relative_to_reference: the ratio is that of times divided by the reference model's.
    """

    change: Change
    ratio: float
    interval: tuple[float, float]
    floor_ratio: float
    basis: Basis
    relative_to_reference: bool


@dataclass(frozen=True, slots=True)
class _Levels:
    """Logarithms of one time per process, and of the reference's beside it (none, or as many)."""

    own: list[float]
    beside: list[float]

    def relative(self) -> list[float]:
        return [own - reference for own, reference in zip(self.own, self.beside, strict=True)]

    @property
    def floor(self) -> float:
        return (noise_floor([math.exp(level) for level in self.beside]) or 0.0) if self.beside else 0.0


def compare(before: Measured, after: Measured, *, same_reference: bool = True) -> Comparison:
    """Hold a later measurement against an earlier one of the same host.

    Welch's t-test (two-sided, 5 %) on the logarithms of one value per process; a change must also exceed the host's
    noise floor, which is the larger of both measurements' A/A bound, and at least 3 %.

    Args:
        before: two or more processes of the earlier candidate.
        after: two or more processes of the later one.
        same_reference: both were run beside the same reference model (one runtime has one).

    Raises:
        BadMeasurement: a side has fewer than two processes, or times that no clock gives.
    """
    _refuse_few(before, after)
    basis = _basis(before, after)
    earlier, later = before.on(basis), after.on(basis)
    floor = max(FLOOR_MIN, earlier.floor, later.floor)
    relative = bool(same_reference and earlier.beside and later.beside)
    sides = (earlier.relative(), later.relative()) if relative else (earlier.own, later.own)
    change, margin = _welch(*sides)
    if abs(change) <= max(margin, math.log1p(floor)):
        found = Change.INCONCLUSIVE
    else:
        found = Change.REGRESSED if change > 0 else Change.IMPROVED
    interval = (math.exp(change - margin), math.exp(change + margin))
    return Comparison(found, math.exp(change), interval, floor, basis, relative)


def _basis(before: Measured, after: Measured) -> Basis:
    sides = (before, after)
    if all(side.is_valid for side in sides):
        return Basis.WALL
    took = all(len(side.cpu_times) == len(side.times) and all(map(all, side.cpu_times)) for side in sides)
    return Basis.PROCESSOR if took else Basis.WALL


def _refuse_few(before: Measured, after: Measured) -> None:
    problems = []
    for name, side in (("earlier", before), ("later", after)):
        if len(side.times) < PROCESSES_MIN:
            problems.append(
                f"the {name} measurement has {len(side.times)} independent process(es) and needs {PROCESSES_MIN}"
            )
        if any(not times or not all(math.isfinite(time) and time > 0 for time in times) for times in side.times):
            problems.append(f"the {name} measurement has processes without times, or times that are not positive")
    if problems:
        raise BadMeasurement(f"These measurements can't be compared: {'; '.join(problems)}.", problems=problems)


def _level(times: Sequence[float], percent: float) -> float:
    return math.log(percentile(sorted(times), percent))


def _welch(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Give the difference of means and the half-width of its 95 % interval. Source: Welch 1947, Biometrika 34."""
    variances = [statistics.variance(side) / len(side) for side in (before, after)]
    total = sum(variances)
    freedom = float(min(len(before), len(after)) - 1)
    if total:
        freedom = total**2 / sum(v**2 / (len(side) - 1) for v, side in zip(variances, (before, after), strict=True))
    return statistics.fmean(after) - statistics.fmean(before), student_t(freedom) * math.sqrt(total)
