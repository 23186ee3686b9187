"""The scenarios a measurement can be of, and what each says beside its latencies.

Source: MLPerf Inference rules, "Scenarios": https://github.com/mlcommons/inference_policies
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from farm.domain.errors import BadRequest, FarmError

LONGEST_SUSTAINED_S = 1500.0
MOST_THREADS = 1024
MOST_COUNTS = 16
MOST_SAMPLES = 1024
SERVER_QUERIES = 100
"""Queries of each of three processes, so that p99 is told: 300 (farm.domain.statistics.quantiles)."""
SERVER_MAX_S = 120.0
"""A process answers queries no longer, be the rate ever so low: then too few may come for a p99."""


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


@dataclass(frozen=True, slots=True)
class Measuring:
    """How a job wants its results measured; what is None or empty the profile or the stage decides.

    Attributes:
        threads: thread counts; latencies are told of the first one, and several are swept.
        sustained_s: length of one further run without a pause; 0 is none.
        samples_per_query: of multi_stream.
        target_qps: queries per second of server.
        latency_bound_ms: what server's p99 has to keep.
    """

    scenario: Scenario = Scenario.SINGLE_STREAM
    threads: tuple[int, ...] = ()
    sustained_s: float = 0.0
    samples_per_query: int | None = None
    target_qps: float | None = None
    latency_bound_ms: float | None = None

    def errors(self) -> list[FarmError]:
        """Name everything that does not fit together."""
        owners = {
            "samples_per_query": Scenario.MULTI_STREAM,
            "target_qps": Scenario.SERVER,
            "latency_bound_ms": Scenario.SERVER,
        }
        errors: list[FarmError] = [
            BadRequest(f"{name} belongs to scenario {owner}; this job asks for {self.scenario}.")
            for name, owner in owners.items()
            if getattr(self, name) is not None and self.scenario is not owner
        ]
        limits = {
            "threads": (1, MOST_THREADS, self.threads),
            "sustained_s": (0, LONGEST_SUSTAINED_S, (self.sustained_s,)),
            "samples_per_query": (1, MOST_SAMPLES, (self.samples_per_query,)),
            "target_qps": (0.01, 1e5, (self.target_qps,)),
            "latency_bound_ms": (0.001, 1e6, (self.latency_bound_ms,)),
        }
        for name, (low, high, values) in limits.items():
            if wrong := [value for value in values if value is not None and not low <= value <= high]:
                shown = ", ".join(f"{value:g}" for value in wrong)
                errors.append(BadRequest(f"{name} is {shown}; it has to lie between {low:g} and {high:g}."))
        if len(set(self.threads)) > MOST_COUNTS:
            errors.append(BadRequest(f"A sweep has {MOST_COUNTS} thread counts at most; this job asks for more."))
        return errors

    def options(self, usual_threads: int) -> dict[str, Any]:
        """Tell a measuring stage; `usual_threads` are the profile's."""
        asked = {name: getattr(self, name) for name in ("samples_per_query", "target_qps", "latency_bound_ms")}
        counts = tuple(dict.fromkeys(self.threads))
        if self.scenario is Scenario.SERVER:
            asked |= {"min_runs": SERVER_QUERIES, "max_s": SERVER_MAX_S}
        return {
            "threads": counts[0] if counts else usual_threads,
            "scenario": self.scenario,
            "threads_sweep": counts if len(counts) > 1 else (),
            "sustained_s": self.sustained_s,
            **{name: value for name, value in asked.items() if value is not None},
        }
