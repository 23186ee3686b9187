"""Energy of an inference from a meter's readings, with what the idle host takes subtracted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STORED_READINGS = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """Joules that a meter has counted since its first reading; `at_s` is on the machine's monotonic clock."""

    at_s: float
    joules: float


@dataclass(frozen=True, slots=True)
class EnergyRun:
    """Inferences that one process made without a pause, between two moments of the machine's monotonic clock."""

    started_s: float
    ended_s: float
    inferences: int


def energy(readings: Sequence[Reading], *, idle: tuple[float, float], run: EnergyRun) -> dict[str, Any]:
    """Give the energy of one inference in millijoules, in the report's words.

    It is (energy while running − idle power · time) / inferences. Where running took no more than idling, the meter
    can't tell, and no figure is given.

    Args:
        readings: in the order of time, from before the idle span to after the run.
        idle: beginning and end of the span in which nothing ran.
        run: the inferences.
    """
    kept = [*readings[: -1 : max(1, math.ceil(len(readings) / STORED_READINGS))], *readings[-1:]]
    idle_power_w = _between(kept, *idle) / (idle[1] - idle[0])
    duration_s = run.ended_s - run.started_s
    spent_j = _between(kept, run.started_s, run.ended_s)
    own_j = spent_j - idle_power_w * duration_s
    told: dict[str, Any] = {
        "energy_per_inference_mj": own_j / run.inferences * 1000 if own_j > 0 else None,
        "idle_power_w": idle_power_w,
        "mean_power_w": spent_j / duration_s,
        "inferences": run.inferences,
        "duration_s": duration_s,
        "idle_span_s": list(idle),
        "run_span_s": [run.started_s, run.ended_s],
        "readings_j": [[one.at_s, one.joules] for one in kept],
    }
    if own_j <= 0:
        told["why_not"] = "running took no more than idling did: the meter can't tell"
    return told


def _between(readings: Sequence[Reading], start_s: float, end_s: float) -> float:
    return _at(readings, end_s) - _at(readings, start_s)


def _at(readings: Sequence[Reading], at_s: float) -> float:
    """Interpolate between the neighbouring readings; beyond the first and the last, those hold."""
    later = next((index for index, one in enumerate(readings) if one.at_s >= at_s), len(readings))
    if later == 0 or later == len(readings):
        return readings[0 if later == 0 else -1].joules
    before, after = readings[later - 1], readings[later]
    return before.joules + (after.joules - before.joules) * (at_s - before.at_s) / (after.at_s - before.at_s)
