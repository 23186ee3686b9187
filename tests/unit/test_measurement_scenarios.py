"""Scenarios and sustained runs on a clock that only the calls and the waiting move."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.measurement import ProcessRun, summarize
from farm.domain.scenario import Asked, Measuring, Scenario
from farm.domain.statistics.sustained import SustainedRun, Window, sustained
from workers.stages.measure.scenarios import Answered, Waiting, answer, poisson_arrivals
from workers.stages.measure.sustaining import run_on
from workers.stages.measure.timing import Clocks, Effort


@dataclass
class World:
    """A clock, and a model that takes so many microseconds a call (the last one for ever)."""

    call_us: Sequence[float]
    now_ns: int = 0
    look_ns: int = 10
    calls: int = 0
    slept_s: list[float] = field(default_factory=list)

    def call(self) -> None:
        self.now_ns += round(1000 * self.call_us[min(self.calls, len(self.call_us) - 1)])
        self.calls += 1

    def clock(self) -> int:
        self.now_ns += self.look_ns
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * 1e9)

    def answer(self, asked: Asked, **effort: float) -> Answered:
        waiting = Waiting(Clocks(self.clock, self.clock), self.sleep)
        return answer(self.call, asked, Effort(**{"min_runs": 50, "min_s": 0.0, **effort}), waiting=waiting)


def test_a_query_of_multi_stream_is_n_samples() -> None:
    world = World([1000.0])
    told = world.answer(Asked(Scenario.MULTI_STREAM, samples_per_query=8))
    assert told.timed.times_us == pytest.approx([8000.0] * 50, rel=1e-3)
    assert told.samples == 400


def test_offline_counts_samples_per_second() -> None:
    told = World([2000.0]).answer(Asked(Scenario.OFFLINE), min_s=1.0)
    assert told.elapsed_s is not None
    assert told.samples / told.elapsed_s == pytest.approx(500, rel=0.01)
    assert len(told.timed.times_us) == told.samples == 500


def test_a_server_that_is_fast_enough_answers_at_once_and_sleeps_between() -> None:
    world = World([1000.0], look_ns=1000)
    told = world.answer(Asked(Scenario.SERVER, target_qps=10.0), min_runs=200)
    assert statistics.median(told.timed.times_us) == pytest.approx(1000, rel=0.02)
    assert told.samples == 200
    assert world.slept_s
    assert told.samples / (told.elapsed_s or 0) == pytest.approx(10, rel=0.2)


def test_every_process_has_a_schedule_of_its_own_and_the_same_one_in_the_next_run() -> None:
    def latencies(process: int) -> tuple[float, ...]:
        asked, world = Asked(Scenario.SERVER, target_qps=100.0), World([9000.0])
        return answer(
            world.call, asked, Effort(min_runs=50), waiting=Waiting(Clocks(world.clock, world.clock), world.sleep),
            process=process,
        ).timed.times_us  # fmt: skip

    assert latencies(1) == latencies(1)
    assert len({latencies(process) for process in range(3)}) == 3


@pytest.mark.parametrize("qps", [5.0, 10.0, 50.0])
def test_three_processes_answer_enough_queries_to_tell_whether_a_rate_is_met(qps: float) -> None:
    asked = Asked(Scenario.SERVER, target_qps=qps, latency_bound_ms=20.0)
    told = Measuring(asked.scenario, target_qps=qps, latency_bound_ms=20.0).options(usual_threads=1)
    effort = {"min_runs": told["min_runs"], "max_s": told["max_s"], "min_s": 1.0}
    taken = [World([1000.0], look_ns=1000).answer(asked, **effort) for _ in range(3)]
    made = [ProcessRun(one.timed.times_us, 2e4, 1e4, 3e3, None, 1, samples=one.samples) for one in taken]

    assert summarize(made, asked=asked)["met"] is True


def test_a_server_that_is_too_slow_has_its_queries_wait_behind_each_other() -> None:
    told = World([200_000.0]).answer(Asked(Scenario.SERVER, target_qps=10.0), min_runs=50)
    assert told.timed.times_us[-1] > 10 * told.timed.times_us[0]


def test_waiting_in_a_queue_is_that_of_the_theory() -> None:
    """M/D/1: at half its capacity a query waits half a service time on average (Pollaczek and Khinchine)."""
    told = World([50_000.0], look_ns=20_000).answer(Asked(Scenario.SERVER, target_qps=10.0), min_runs=4000, max_s=1e6)
    assert statistics.fmean(told.timed.times_us) == pytest.approx(75_000, rel=0.06)


@given(st.integers(100, 400), st.floats(0.5, 500))
def test_arrivals_are_poisson_and_the_same_every_time(count: int, qps: float) -> None:
    arrivals = poisson_arrivals(count, qps)
    assert arrivals == poisson_arrivals(count, qps)
    assert list(arrivals) == sorted(arrivals)
    gaps = [after - before for before, after in zip((0.0, *arrivals), arrivals, strict=False)]
    assert statistics.fmean(gaps) == pytest.approx(1 / qps, rel=0.3)
    assert statistics.stdev(gaps) == pytest.approx(1 / qps, rel=0.4)


def runs(latency_us: float, samples: int = 400, elapsed_s: float = 40.0) -> list[ProcessRun]:
    times = (latency_us,) * samples
    return [ProcessRun(times, 2e4, 1e4, 3e3, None, 1, samples=samples, elapsed_s=elapsed_s) for _ in range(3)]


def test_a_summary_tells_the_scenario_and_its_figures() -> None:
    assert summarize(runs(900.0))["scenario"] == "single_stream"
    offline = summarize(runs(900.0), asked=Asked(Scenario.OFFLINE))
    assert (offline["scenario"], offline["samples_per_s"]) == ("offline", 10.0)
    several = summarize(runs(900.0), asked=Asked(Scenario.MULTI_STREAM, samples_per_query=4))
    assert (several["scenario"], several["samples_per_query"]) == ("multi_stream", 4)


@pytest.mark.parametrize(
    ("bound_ms", "samples", "met"), [(1.0, 400, True), (0.8, 400, False), (None, 400, None), (1.0, 20, None)]
)
def test_a_server_meets_its_rate_when_the_tail_keeps_the_bound(
    bound_ms: float | None, samples: int, met: bool | None
) -> None:
    asked = Asked(Scenario.SERVER, target_qps=10.0, latency_bound_ms=bound_ms)
    told = summarize(runs(900.0, samples), asked=asked)
    assert told["met"] is met
    assert (told["target_qps"], told["latency_bound_ms"]) == (10.0, bound_ms)


def windows(*levels: float, window_s: float = 10.0) -> SustainedRun:
    made = (Window(index * window_s, (level, level * 1.01, level * 1.2)) for index, level in enumerate(levels))
    return SustainedRun(1000.0, window_s, tuple(made))


def test_a_board_that_keeps_its_speed_is_not_throttled() -> None:
    told = sustained(windows(*[100.0] * 30))
    assert told["time_to_throttle_s"] is None
    assert told["steady_state_ratio"] == pytest.approx(1.0)


def test_a_board_that_gets_hot_tells_when_and_how_much_speed_is_left() -> None:
    run = windows(*[100.0] * 12, *[105.0] * 3, *[150.0] * 15)
    told = sustained(run, [(1000.0 + 10 * i, 50.0 + i) for i in range(30)], [(1000.0 + 10 * i, 0.9) for i in range(30)])
    assert told["time_to_throttle_s"] == 150.0
    assert told["steady_state_ratio"] == pytest.approx(100 / 150)
    assert told["windows"][20]["temperature_c"] == 70.0
    assert told["windows"][20]["clock_ratio"] == 0.9
    assert told["windows"][0]["p90"] > told["windows"][0]["p50"]
    assert told["duration_s"] == 300.0


def test_one_slow_window_is_no_throttling() -> None:
    assert sustained(windows(*[100.0] * 10, 300.0, *[100.0] * 10))["time_to_throttle_s"] is None


def test_windows_without_a_sample_or_a_reading_are_no_error() -> None:
    run = SustainedRun(0.0, 10.0, (Window(0.0, (100.0,)), Window(10.0, ()), Window(20.0, (100.0,))))
    told = sustained(run)
    assert len(told["windows"]) == 2
    assert told["windows"][0]["temperature_c"] is None


def test_running_on_fills_windows_of_its_own_length() -> None:
    world = World([1000.0] * 500 + [2000.0], look_ns=1000)
    run = run_on(world.call, 1.5, clocks=Clocks(world.clock, world.clock), now_s=lambda: 7.0)
    told = sustained(run)
    assert (run.started_s, len(run.windows), run.window_s) == (7.0, 10, pytest.approx(0.15))
    assert told["time_to_throttle_s"] == pytest.approx(0.45, abs=0.16)
    assert told["steady_state_ratio"] == pytest.approx(0.5, rel=0.02)
