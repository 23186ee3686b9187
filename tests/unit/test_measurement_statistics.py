"""The statistics of measured times, against NumPy-free definitions and known distributions."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import Actor, BadMeasurement
from farm.domain.measurement import (
    MAX_STORED_SAMPLES,
    Change,
    ProcessRun,
    compare,
    percentile,
    stability,
    summarize,
    versus_float,
)

TIMES = st.lists(st.floats(0.01, 1e7, allow_nan=False), min_size=1, max_size=60)


def run(times: list[float] | tuple[float, ...] = (100.0, 101.0, 102.0), **changes: object) -> ProcessRun:
    given_ = {
        "times_us": tuple(times),
        "first_load_us": 5e4,
        "warm_load_us": 4e4,
        "first_inference_us": 900.0,
        "peak_memory_bytes": 50_000_000,
        "threads": 1,
    }
    return ProcessRun(**{**given_, **changes})


def noisy(generator: random.Random, factor: float = 1.0, noise: float = 0.02, samples: int = 20) -> ProcessRun:
    """Take samples whose process as a whole is off by `noise`, as real ones are."""
    level = 1000 * factor * generator.gauss(1, noise)
    return run([level * generator.gauss(1, 0.01) for _ in range(samples)])


@given(st.lists(TIMES, min_size=1, max_size=5))
def test_summary_holds_what_the_samples_hold(processes: list[list[float]]) -> None:
    summary = summarize([run(times) for times in processes])
    pooled = sorted(time for times in processes for time in times)
    assert summary["all_inference_times"] == processes
    assert summary["p50"] == summary["estimated_inference_time"] == pytest.approx(statistics.median(pooled))
    assert pooled[0] <= summary["p50"] <= summary["p90"] <= pooled[-1]
    low, high = summary["ci95"]
    assert 0 < low <= summary["p50"] * (1 + 1e-9)
    assert summary["p50"] * (1 - 1e-9) <= high
    assert summary["p99"] is None or len(pooled) >= 300


@given(TIMES, st.floats(0, 100))
def test_percentile_lies_between_its_neighbours(times: list[float], percent: float) -> None:
    ordered = sorted(times)
    rank = (len(ordered) - 1) * percent / 100
    tolerance = 1e-9 * ordered[-1]
    assert ordered[math.floor(rank)] - tolerance <= percentile(ordered, percent)
    assert percentile(ordered, percent) <= ordered[min(math.ceil(rank), len(ordered) - 1)] + tolerance


@given(st.lists(TIMES, min_size=3, max_size=4), st.floats(0.5, 20))
def test_slower_by_a_factor_is_slower_by_that_factor(processes: list[list[float]], factor: float) -> None:
    one = summarize([run(times) for times in processes])
    other = summarize([run([time * factor for time in times]) for times in processes])
    assert other["p50"] == pytest.approx(one["p50"] * factor)
    assert other["ci95"] == pytest.approx([bound * factor for bound in one["ci95"]])
    assert versus_float(other, one) == pytest.approx(1 / factor)


def test_equal_input_gives_equal_output() -> None:
    runs = [run([100.0 + i % 7 for i in range(50)]) for _ in range(3)]
    assert summarize(runs) == summarize(runs)


def test_percentiles_of_a_known_distribution_are_within_a_percent() -> None:
    generator = random.Random(1)
    runs = [run([generator.expovariate(1 / 500) + 1000 for _ in range(4000)]) for _ in range(3)]
    summary = summarize(runs)
    assert summary["p50"] == pytest.approx(1000 + 500 * math.log(2), rel=0.02)
    assert summary["p90"] == pytest.approx(1000 + 500 * math.log(10), rel=0.03)
    assert summary["p99"] == pytest.approx(1000 + 500 * math.log(100), rel=0.06)


@pytest.mark.parametrize("processes", [3, 6])
def test_interval_covers_the_true_median_when_processes_differ(processes: int) -> None:
    generator = random.Random(2)
    covered = 0
    for _ in range(60):
        low, high = summarize([noisy(generator, samples=10) for _ in range(processes)])["ci95"]
        covered += low <= 1000 <= high
    assert covered >= 54


def test_many_samples_are_thinned_evenly_and_in_order() -> None:
    times = [float(i + 1) for i in range(10 * MAX_STORED_SAMPLES)]
    summary = summarize([run(times)] * 3)
    kept = summary["all_inference_times"][0]
    assert len(kept) == MAX_STORED_SAMPLES
    assert kept == times[::10]
    assert summary["samples_taken"] == [len(times)] * 3
    assert summary["p50"] == pytest.approx(statistics.median(times), rel=0.002)


def test_memory_comes_from_the_separate_pass_where_there_was_one() -> None:
    assert summarize([run()] * 3, memory=[7000, 9000])["inference_memory_peak_range"] == [7000, 9000]
    assert summarize([run()] * 3)["inference_memory_peak_range"] == [50_000_000, 50_000_000]
    assert "inference_memory_peak_range" not in summarize([run(peak_memory_bytes=None)] * 3)


def test_no_tail_is_told_of_batched_calls() -> None:
    assert summarize([run([5.0] * 400)] * 3)["p99"] == 5.0
    assert summarize([run([5.0] * 400, batch=50)] * 3)["p99"] is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"times": []}, "no samples"),
        ({"times": [1.0, float("nan")]}, "1 of 2 times"),
        ({"times": [1.0, -3.0]}, "first -3.0"),
        ({"times": [0.0]}, "first 0.0"),
        ({"times": [float("inf")]}, "first inf"),
        ({"first_load_us": -1.0}, "first_load_us is -1.0"),
        ({"first_inference_us": float("nan")}, "first_inference_us is nan"),
        ({"warm_load_us": 0.0}, "warm_load_us is 0.0"),
        ({"peak_memory_bytes": -1}, "peak_memory_bytes is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": 2}, "differ in threads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nonsense_is_the_hosts_failure_and_named(changes: dict, word: str) -> None:
    with pytest.raises(BadMeasurement, match=word) as caught:
        summarize([run(), run(**changes)])
    assert caught.value.who_must_act is Actor.HOST
    assert caught.value.retryable


def test_no_run_at_all_is_nonsense() -> None:
    with pytest.raises(BadMeasurement, match="no process reported a run"):
        summarize([])


def test_stable_runs_have_no_reasons() -> None:
    assert stability([run([100.0]), run([102.0]), run([104.0])], [run([50.0])] * 3) == []


def test_processes_that_disagree_are_unstable() -> None:
    assert stability([run([100.0]), run([102.0]), run([125.0])]) == ["unstable"]
    assert stability([run([100.0]), run([102.0]), run([125.0])], spread_max=0.3) == []


def test_two_processes_prove_nothing() -> None:
    assert stability([run(), run()]) == ["unstable"]


def test_a_reference_that_drifts_says_so() -> None:
    assert stability([run()] * 3, [run([50.0]), run([51.0]), run([58.0])]) == ["reference-drift"]


def test_versus_float_needs_both() -> None:
    assert versus_float(None, summarize([run()] * 3)) is None
    assert versus_float(summarize([run()] * 3), None) is None


def test_equal_candidates_are_told_apart_in_at_most_five_percent() -> None:
    generator = random.Random(3)
    verdicts = [
        compare([noisy(generator) for _ in range(3)], [noisy(generator) for _ in range(3)], floor=0.03)
        for _ in range(200)
    ]
    assert sum(verdict is not Change.INCONCLUSIVE for verdict in verdicts) <= 10


@pytest.mark.parametrize(("factor", "expected"), [(1.1, Change.REGRESSED), (1 / 1.1, Change.IMPROVED)])
def test_ten_percent_is_found_with_five_processes(factor: float, expected: Change) -> None:
    generator = random.Random(4)
    found = [
        compare([noisy(generator) for _ in range(5)], [noisy(generator, factor) for _ in range(5)], floor=0.03)
        for _ in range(200)
    ]
    assert found.count(expected) >= 190


def test_a_change_below_the_floor_is_inconclusive() -> None:
    before, after = ([run([level + i]) for i in range(5)] for level in (1000.0, 1020.0))
    assert compare(before, after, floor=0.05) is Change.INCONCLUSIVE
    assert compare(before, after, floor=0.005) is Change.REGRESSED


def test_one_process_a_side_can_not_be_compared() -> None:
    with pytest.raises(BadMeasurement, match="two independent processes"):
        compare([run()], [run(), run()], floor=0.0)
