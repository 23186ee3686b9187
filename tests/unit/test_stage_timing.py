"""Timing on a clock that only the calls move."""

import gc

import pytest

from workers.stages.measure.memory import peak_bytes, reset_peak
from workers.stages.measure.timing import SAMPLE_MIN_US, Clocks, Effort, batch_for, time_calls


class Clock:
    """Nanoseconds; a call advances them."""

    def __init__(self, call_us: float, first_us: float | None = None) -> None:
        self.now_ns = 0
        self.calls = 0
        self.call_us, self.first_us = call_us, first_us or call_us

    def __call__(self) -> int:
        return self.now_ns

    def work(self) -> None:
        self.now_ns += int(1000 * (self.call_us if self.calls else self.first_us))
        self.calls += 1


def test_every_sample_is_microseconds_per_call() -> None:
    clock = Clock(200.0, first_us=9000.0)
    timed = time_calls(clock.work, Effort(min_runs=10, min_s=0.0), clocks=Clocks(clock, clock))
    assert timed.first_us == 9000.0
    assert set(timed.times_us) == {200.0}
    assert timed.batch == 1


def test_it_lasts_until_both_runs_and_seconds_are_reached() -> None:
    clock = Clock(1000.0)
    assert len(time_calls(clock.work, Effort(min_runs=50, min_s=0.1), clocks=Clocks(clock, clock)).times_us) == 100
    assert len(time_calls(clock.work, Effort(min_runs=500, min_s=0.1), clocks=Clocks(clock, clock)).times_us) == 500


def test_it_ends_at_the_longest_time() -> None:
    clock = Clock(1_000_000.0)
    assert (
        len(time_calls(clock.work, Effort(min_runs=50, min_s=1.0, max_s=5.0), clocks=Clocks(clock, clock)).times_us)
        == 5
    )


def test_short_calls_are_batched() -> None:
    clock = Clock(5.0)
    timed = time_calls(clock.work, Effort(min_runs=10, min_s=0.0), clocks=Clocks(clock, clock))
    assert timed.batch == 16
    assert timed.times_us == (5.0,) * 10
    assert clock.calls == 1 + 3 + 160


@pytest.mark.parametrize("call_us", [0.0, 0.3, 5.0, 49.9, 50.0, 1e6])
def test_a_batch_is_a_power_of_two_that_lasts_long_enough(call_us: float) -> None:
    batch = batch_for(call_us)
    assert batch & (batch - 1) == 0
    assert batch == 4096 or batch * call_us >= SAMPLE_MIN_US
    assert batch == 1 or batch * max(call_us, 0.01) < 2 * SAMPLE_MIN_US + 50


def test_a_given_batch_is_kept() -> None:
    clock = Clock(5.0)
    assert time_calls(clock.work, Effort(min_runs=2, min_s=0.0, batch=7), clocks=Clocks(clock, clock)).batch == 7


def test_a_call_that_the_clock_cannot_see_takes_no_zero_time() -> None:
    timed = time_calls(
        lambda: None, Effort(min_runs=3, min_s=0.0, max_s=0.001, batch=1), clocks=Clocks(lambda: 0, lambda: 0)
    )
    assert timed.first_us > 0


def test_the_garbage_collector_rests_meanwhile_and_returns() -> None:
    seen = []
    time_calls(lambda: seen.append(gc.isenabled()), Effort(min_runs=2, min_s=0.0))
    assert set(seen) == {False}
    assert gc.isenabled()


def test_the_peak_follows_what_is_allocated() -> None:
    reset_peak()
    before = peak_bytes()
    held = bytearray(64 << 20)
    held[::4096] = b"x" * len(held[::4096])
    after = peak_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 48 << 20


def test_processor_time_leaves_out_what_others_had() -> None:
    wall, cpu = Clock(300.0), Clock(200.0)

    def work() -> None:
        wall.work()
        cpu.work()

    timed = time_calls(work, Effort(min_runs=4, min_s=0.0), clocks=Clocks(wall, cpu))
    assert set(timed.times_us) == {300.0}
    assert set(timed.cpu_times_us) == {200.0}
    assert len(timed.cpu_times_us) == len(timed.times_us)
