"""The scenarios a measurement can be of, and what each says beside its latencies.

Source: MLPerf Inference rules, "Scenarios": https://github.com/mlcommons/inference_policies
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Scenario(StrEnum):
    """Names as in the report."""

    SINGLE_STREAM = "single_stream"
    MULTI_STREAM = "multi_stream"
    OFFLINE = "offline"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for: samples in a query of multi_stream; queries per second and a bound of server."""

    scenario: Scenario = Scenario.SINGLE_STREAM
    samples_per_query: int = 8
    target_qps: float = 10.0
    latency_bound_ms: float | None = None


def figures(asked: Asked, counted: Sequence[tuple[int | None, float | None]], tail_us: float | None) -> dict[str, Any]:
    """Tell a scenario's own figures, in the report's words.

    Args:
        asked: the scenario.
        counted: (samples, seconds) of each process, None where it took none.
        tail_us: p99 of the latencies; None where they are too few. A server meets its rate when p99 keeps the bound,
            as LoadGen demands; without p99, or without a bound, that is not known.
    """
    told: dict[str, Any] = {"scenario": asked.scenario.value}
    rates = [samples / seconds for samples, seconds in counted if samples and seconds]
    if asked.scenario is Scenario.MULTI_STREAM:
        told["samples_per_query"] = asked.samples_per_query
    if asked.scenario in (Scenario.OFFLINE, Scenario.SERVER) and rates:
        told |= {"samples_per_s": statistics.median(rates), "samples_per_s_by_process": rates}
    if asked.scenario is Scenario.SERVER:
        bound_ms = asked.latency_bound_ms
        known = bound_ms is not None and tail_us is not None
        told |= {
            "target_qps": asked.target_qps,
            "latency_bound_ms": bound_ms,
            "met": (tail_us or 0.0) <= 1000 * (bound_ms or 0.0) if known else None,
        }
    return told
