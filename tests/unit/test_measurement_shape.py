"""A stand-in for a runtime with latencies of known distributions, through the code that times real ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.measurement import ProcessRun, summarize
from farm.domain.statistics.shape import shape
from farm.domain.statistics.sustained import sustained
from workers.stages.measure.sustaining import run_on
from workers.stages.measure.timing import Clocks, Effort, time_calls

SAMPLES = 1000
Latency = Callable[[random.Random, float], float]
"""Microseconds of one call; given a generator, and the share of the process's calls that are done."""


def constant(generator: random.Random, done: float) -> float:
    return 2000.0


def noisy(generator: random.Random, done: float) -> float:
    return 2000.0 * math.exp(generator.gauss(0, 0.02))


def bimodal(generator: random.Random, done: float) -> float:
    return 2000.0 if generator.random() < 0.7 else 3100.0


def drifting(generator: random.Random, done: float) -> float:
    return 2000.0 * (1 + 0.2 * done)


def throttled(generator: random.Random, done: float) -> float:
    return 2000.0 if done < 0.4 else 3000.0


@dataclass
class StandIn:
    """A runtime that computes nothing: each call moves its clock by a latency that is drawn, and kept."""

    latency: Latency
    generator: random.Random
    calls: int = SAMPLES
    now_ns: int = 0
    called: int = 0

    def call(self) -> None:
        done = self.called / self.calls
        self.now_ns += round(1000 * self.latency(self.generator, done))
        self.called += 1

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now_ns, lambda: self.now_ns)

    def process(self) -> ProcessRun:
        timed = time_calls(
            self.call, Effort(warmup_runs=1, min_runs=SAMPLES, min_s=0.0, max_s=1e9), clocks=self.clocks()
        )
        return ProcessRun(timed.times_us, 2e4, 1e4, timed.first_us, None, 1, batch=timed.batch)


def measured(latency: Latency) -> dict[str, Any]:
    return summarize([StandIn(latency, random.Random(seed)).process() for seed in range(3)])


@pytest.mark.parametrize(
    ("latency", "p50", "p99", "named"),
    [
        (constant, 2000.0, 2000.0, []),
        (noisy, 2000.0, 2000.0 * math.exp(0.02 * 2.3263), []),
        (bimodal, 2000.0, 3100.0, ["two-modes"]),
        (drifting, 2200.0, 2396.0, ["drift"]),
        (throttled, 3000.0, 3000.0, ["two-modes", "drift"]),
    ],
    ids=["constant", "noisy", "bimodal", "drifting", "throttled"],
)
def test_a_known_distribution_is_told_within_one_percent(
    latency: Latency, p50: float, p99: float, named: list[str]
) -> None:
    told = measured(latency)

    assert told["p50"] == pytest.approx(p50, rel=0.01)
    assert told["p99"] == pytest.approx(p99, rel=0.01)
    assert told["distribution"]["named"] == named


def test_the_modes_and_the_drift_have_their_sizes() -> None:
    assert measured(bimodal)["distribution"]["modes_us"] == pytest.approx([2000.0, 3100.0], rel=0.01)
    assert measured(bimodal)["distribution"]["mode_shares"] == pytest.approx([0.7, 0.3], abs=0.05)
    assert measured(drifting)["distribution"]["drift_ratio"] == pytest.approx((1 + 1 / 6) / (1 + 1 / 30), rel=0.01)
    assert measured(constant)["distribution"]["modes_us"] is None


def test_a_throttled_run_tells_when_and_what_is_left() -> None:
    stand_in = StandIn(throttled, random.Random(0), calls=4000)
    told = sustained(run_on(stand_in.call, 10.0, clocks=stand_in.clocks(), now_s=lambda: 0.0))

    assert told["time_to_throttle_s"] == pytest.approx(4.0, abs=1.0)
    assert told["steady_state_ratio"] == pytest.approx(2 / 3, rel=0.01)


@pytest.mark.parametrize("noise", [0.005, 0.02, 0.1])
def test_noise_of_one_mode_is_neither_two_modes_nor_a_drift(noise: float) -> None:
    generator = random.Random(7)

    def drawn() -> list[list[float]]:
        return [[2000 * math.exp(generator.gauss(0, noise)) for _ in range(60)] for _ in range(3)]

    named = [name for _ in range(100) for name in shape(drawn())["named"]]

    assert len(named) <= 1


def test_a_few_interrupted_calls_are_no_mode_of_their_own() -> None:
    generator = random.Random(3)
    times = [[2000.0 + 4000.0 * (generator.random() < 0.03) for _ in range(200)] for _ in range(3)]

    assert shape(times)["named"] == []


@given(st.lists(st.lists(st.floats(1, 1e6), min_size=1, max_size=40), min_size=1, max_size=4))
def test_any_samples_have_a_shape(times: list[list[float]]) -> None:
    told = shape(times)

    if told["modes_us"]:
        low, high = told["modes_us"]
        assert low < high
        assert sum(told["mode_shares"]) == pytest.approx(1)
    assert told["drift_ratio"] is None or told["drift_ratio"] > 0


def test_too_few_samples_name_nothing() -> None:
    assert shape([[1000.0, 3000.0, 1000.0]] * 3) == {
        "modes_us": None,
        "mode_shares": None,
        "drift_ratio": None,
        "named": [],
    }
