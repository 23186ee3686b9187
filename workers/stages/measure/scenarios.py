"""Four ways to ask for inferences, as MLPerf defines them.

single_stream: the next query comes when the last one is answered; a query is one sample; its latency counts.
multi_stream: the same, with N samples in a query; the query's latency counts.
offline: all samples are there at once; samples per second count.
server: queries of one sample come at random (Poisson) at a rate; latency counts from when the query came, so waiting
behind others is part of it, and the rate is met when the tail stays under a bound.

A session answers one call at a time, so the samples of a query are run one after the other.

Source: MLPerf Inference rules, "Scenarios" (https://github.com/mlcommons/inference_policies/blob/master/
inference_rules.adoc); Reddi et al. 2020, MLPerf Inference Benchmark, section IV; LoadGen's design
(https://github.com/mlcommons/inference/tree/master/loadgen): the server's schedule is drawn before, from a fixed seed;
here from one for each process, so that several say more than one schedule.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from farm.domain.scenario import Asked, Scenario
from workers.stages.measure.timing import Clocks, Effort, Timed, take_sample, time_calls

SCHEDULE_SEED = 20_261_124
LONGEST_SLEEP_S = 0.05
NEAR_S = 0.002
"""So near to its time a query is waited for by looking at the clock: sleeping is less exact."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Latencies of queries, and how long all the samples took together (None where that is no result)."""

    timed: Timed
    samples: int
    elapsed_s: float | None = None


@dataclass(slots=True)
class Waiting:
    """Time as the server scenario lives in it; a test brings its own."""

    clocks: Clocks = field(default_factory=Clocks)
    sleep: Callable[[float], None] = time.sleep

    def until(self, when_ns: int) -> None:
        while (left_s := (when_ns - self.clocks.wall_ns()) / 1e9) > 0:
            if left_s > NEAR_S:
                self.sleep(min(left_s - NEAR_S / 2, LONGEST_SLEEP_S))


def answer(
    call: Callable[[], object], asked: Asked, effort: Effort, *, waiting: Waiting | None = None, process: int = 0
) -> Answered:
    """Run a scenario on one sample after the other; `process` numbers those of a measurement."""
    waiting = waiting or Waiting()
    if asked.scenario is Scenario.SERVER:
        count = max(effort.min_runs, round(effort.min_s * asked.target_qps))
        return _server(call, poisson_arrivals(count, asked.target_qps, SCHEDULE_SEED + process), effort, waiting)
    if asked.scenario is Scenario.SINGLE_STREAM:
        timed = time_calls(call, effort, clocks=waiting.clocks)
        return Answered(timed, len(timed.times_us) * timed.batch)
    many = asked.samples_per_query

    def query() -> None:
        for _ in range(many):
            call()

    alone = Effort(effort.warmup_runs, effort.min_runs, effort.min_s, effort.max_s, batch=1)
    if asked.scenario is Scenario.MULTI_STREAM:
        timed = time_calls(query, alone, clocks=waiting.clocks)
        return Answered(timed, many * len(timed.times_us))
    return _offline(call, effort, waiting)


def _offline(call: Callable[[], object], effort: Effort, waiting: Waiting) -> Answered:
    timed = time_calls(call, Effort(effort.warmup_runs, 1, 0.0, effort.max_s, batch=1), clocks=waiting.clocks)
    each_us = min(timed.times_us)
    count = max(effort.min_runs, round(effort.min_s * 1e6 / each_us))
    started_ns = waiting.clocks.wall_ns()
    every = tuple(take_sample(call, 1, waiting.clocks) for _ in range(count))
    elapsed_s = (waiting.clocks.wall_ns() - started_ns) / 1e9
    walls, cpus = tuple(s.wall_us for s in every), tuple(s.cpu_us for s in every)
    return Answered(Timed(timed.first_us, walls, cpus, 1), count, elapsed_s)


def _server(call: Callable[[], object], arrivals_s: tuple[float, ...], effort: Effort, waiting: Waiting) -> Answered:
    """Answer queries in the order they come; none is dropped."""
    clocks = waiting.clocks
    first_us = take_sample(call, 1, clocks).wall_us
    for _ in range(effort.warmup_runs):
        call()
    gc.disable()
    latencies: list[float] = []
    cpus: list[float] = []
    started_ns = clocks.wall_ns()
    for arrival_s in arrivals_s:
        due_ns = started_ns + round(arrival_s * 1e9)
        waiting.until(due_ns)
        cpus.append(take_sample(call, 1, clocks).cpu_us)
        latencies.append(max(clocks.wall_ns() - due_ns, 1) / 1000)
        if clocks.wall_ns() - started_ns > effort.max_s * 1e9:
            break
    gc.enable()
    elapsed_s = (clocks.wall_ns() - started_ns) / 1e9
    return Answered(Timed(first_us, tuple(latencies), tuple(cpus), 1), len(latencies), elapsed_s)


def poisson_arrivals(count: int, qps: float, seed: int = SCHEDULE_SEED) -> tuple[float, ...]:
    """Draw when queries come, in seconds from the start: gaps are exponential with mean 1 / qps."""
    generator = random.Random(seed)  # noqa: S311 (a schedule, not secrets)
    at, arrivals = 0.0, []
    for _ in range(count):
        at += generator.expovariate(qps)
        arrivals.append(at)
    return tuple(arrivals)
