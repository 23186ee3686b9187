"""The statistics of measured times, against NumPy-free definitions and known distributions."""

import itertools
import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.domain.errors import Actor, BadMeasurement
from farm.domain.measurement import Ended, ProcessRun, instability, summarize, versus_float
from farm.domain.statistics.intervals import median_interval, percentile_intervals, student_t
from farm.domain.statistics.noise import noise_floor
from farm.domain.statistics.quantiles import MAX_STORED_SAMPLES, PERCENTILES, alike, percentile
from farm.domain.statistics.stability import Ending, StabilityRule, interval_ratio

few = settings(max_examples=25, deadline=None)
"""Each example draws some thousand numbers."""
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


@few
@given(st.lists(TIMES, min_size=1, max_size=5))
def test_summary_holds_what_the_samples_hold(processes: list[list[float]]) -> None:
    summary = summarize([run(times) for times in processes])
    pooled = sorted(time for times in summary["all_inference_times"] for time in times)
    assert all(set(kept) <= set(times) for kept, times in zip(summary["all_inference_times"], processes, strict=True))
    assert [len(times) for times in processes] == summary["samples_taken"]
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


@few
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
    for _ in range(40):
        low, high = summarize([noisy(generator, samples=10) for _ in range(processes)])["ci95"]
        covered += low <= 1000 <= high
    assert covered >= 36


def test_many_samples_are_thinned_evenly_and_in_order() -> None:
    times = [float(i + 1) for i in range(10 * MAX_STORED_SAMPLES)]
    summary = summarize([run(times)] * 3)
    kept = summary["all_inference_times"][0]
    assert len(kept) == MAX_STORED_SAMPLES
    assert kept == times[::10]
    assert summary["samples_taken"] == [len(times)] * 3
    assert summary["p50"] == pytest.approx(statistics.median(times), rel=0.002)


@given(st.lists(st.integers(1, 4 * MAX_STORED_SAMPLES), min_size=1, max_size=5))
def test_of_every_process_equally_many_samples_are_kept_in_order(counts: list[int]) -> None:
    kept = alike([range(count) for count in counts])

    assert {len(times) for times in kept} == {min(MAX_STORED_SAMPLES, *counts)}
    for times, count in zip(kept, counts, strict=True):
        steps = {after - before for before, after in itertools.pairwise(times)}
        assert steps <= {count // len(times), math.ceil(count / len(times))} or steps == {1}
        assert len(times) < count or list(times) == list(range(count))


def test_one_sample_more_in_a_process_does_not_halve_its_weight() -> None:
    fast, slow = run([1000.0] * MAX_STORED_SAMPLES), run([2000.0] * (MAX_STORED_SAMPLES + 1))
    summary = summarize([fast, slow, slow, fast])

    assert [len(times) for times in summary["all_inference_times"]] == [MAX_STORED_SAMPLES] * 4
    assert summary["p50"] == 1500.0
    assert summary["p999"] == 2000.0, "four thousand samples are enough for p999"


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
    assert instability([run([100.0]), run([102.0]), run([104.0])], [run([50.0])] * 3) == []


def test_processes_that_disagree_are_unstable() -> None:
    assert instability([run([100.0]), run([102.0]), run([125.0])]) == ["unstable"]
    assert instability([run([100.0]), run([102.0]), run([125.0])], spread_max=0.3) == []


def test_two_processes_prove_nothing() -> None:
    assert instability([run(), run()]) == ["unstable"]


def test_a_reference_that_drifts_says_so() -> None:
    assert instability([run()] * 3, [run([50.0]), run([51.0]), run([58.0])]) == ["reference-drift"]


def test_versus_float_needs_both() -> None:
    assert versus_float(None, summarize([run()] * 3)) is None
    assert versus_float(summarize([run()] * 3), None) is None


@pytest.mark.parametrize(
    ("samples", "told"), [(299, ()), (300, ("p99",)), (2999, ("p99",)), (3000, ("p99", "p999")), (5, ())]
)
def test_a_tail_needs_three_samples_beyond_it(samples: int, told: tuple[str, ...]) -> None:
    summary = summarize([run([100.0 + i % 17 for i in range(count)]) for count in split(samples)])
    assert tuple(name for name in ("p99", "p999") if summary[name] is not None) == told
    assert {name for name, interval in summary["intervals"].items() if interval} == {"p50", "p90", *told}


def split(samples: int) -> tuple[int, ...]:
    third = samples // 3
    return third, third, samples - 2 * third


@few
@given(st.lists(TIMES, min_size=3, max_size=5), st.integers(0, 9))
def test_intervals_hold_their_percentile_and_are_the_same_for_the_same_seed(
    processes: list[list[float]], seed: int
) -> None:
    pooled = sorted(time for times in processes for time in times)
    intervals = percentile_intervals(processes, PERCENTILES, seed)
    assert intervals == percentile_intervals(processes, PERCENTILES, seed)
    for name, (low, high) in intervals.items():
        value = percentile(pooled, PERCENTILES[name])
        assert low <= value * (1 + 1e-9)
        assert value * (1 - 1e-9) <= high


@pytest.mark.parametrize(("name", "true"), [("p50", 1000 + 500 * math.log(2)), ("p90", 1000 + 500 * math.log(10))])
def test_intervals_cover_a_percentile_as_often_as_they_say(name: str, true: float) -> None:
    generator = random.Random(5)
    covered = 0
    for _ in range(60):
        levels = [generator.gauss(1, 0.03) for _ in range(4)]
        runs = [[level * (1000 + generator.expovariate(1 / 500)) for _ in range(60)] for level in levels]
        low, high = percentile_intervals(runs, {name: PERCENTILES[name]})[name]
        covered += low <= true <= high
    assert covered >= 54


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (6, 2.447), (8, 2.306), (30, 2.042)]
)
def test_students_t_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, rel=0.012)


def steady(processes: int) -> list[list[float]]:
    return [[1000.0 + index + sample % 3 for sample in range(50)] for index in range(processes)]


def restless(processes: int) -> list[list[float]]:
    return [[1000.0 * (1 + 0.1 * (index % 3)) for _ in range(50)] for index in range(processes)]


def test_steady_processes_end_a_measurement_as_soon_as_the_rule_allows() -> None:
    rule = StabilityRule()
    assert rule.ending(steady(2), 1.0) is None
    assert rule.ending(steady(3), 1.0) is Ending.NARROW


def test_restless_processes_end_it_with_the_budget() -> None:
    rule = StabilityRule(processes_max=5, budget_s=20.0)
    assert rule.ending(restless(3), 1.0) is None
    assert rule.ending(restless(5), 1.0) is Ending.PROCESSES
    assert rule.ending(restless(4), 20.0) is Ending.TIME
    assert rule.ending(restless(2), 99.0) is None


def test_a_summary_tells_how_the_measurement_ended() -> None:
    ended = Ended(StabilityRule(), Ending.NARROW, 4.5)
    told = summarize([run()] * 3, ended=ended)
    low, high = told["ci95"]
    assert told["stability"]["ended_by"] == "narrow"
    assert told["stability"]["interval_ratio"] == pytest.approx(interval_ratio((low, high)))
    assert told["stability"]["wanted_interval_ratio"] == 0.05


def test_many_restless_processes_are_stable_when_their_median_is_known_well_enough() -> None:
    generator = random.Random(6)
    runs = [run([1000.0 * generator.gauss(1, 0.04) for _ in range(40)]) for _ in range(12)]
    outlier = run([1150.0] * 40)
    assert instability([*runs, outlier]) == []
    assert instability([*runs[:2], outlier]) == ["unstable"]


def test_the_noise_floor_bounds_nineteen_of_twenty_differences_of_equal_measurements() -> None:
    generator = random.Random(7)
    bounded = 0
    for _ in range(400):
        first, second = ([1000 * math.exp(generator.gauss(0, 0.02)) for _ in range(5)] for _ in range(2))
        floor = noise_floor(first)
        difference = abs(statistics.fmean(map(math.log, second)) - statistics.fmean(map(math.log, first)))
        bounded += floor is not None and difference <= math.log1p(floor)
    assert 0.9 <= bounded / 400 <= 1.0
    assert noise_floor([1000.0]) is None
    assert noise_floor([1000.0] * 3) == 0.0


def test_everything_a_statistic_rests_on_is_stored_beside_it() -> None:
    references = [run([50.0, 51.0, 52.0]), run([51.0, 52.0, 53.0]), run([50.5, 51.5, 52.5])]
    summary = summarize([run(), run(first_load_us=7e4, warm_load_us=None), run()], references)
    assert statistics.median(summary["first_load_times_us"]) == summary["first_load_time"] == 5e4
    assert statistics.median(summary["warm_load_times_us"]) == summary["warm_load_time"] == 4e4
    assert statistics.median(summary["first_inference_times_us"]) == summary["first_inference_us"]
    medians = [statistics.median(times) for times in summary["all_reference_times_us"]]
    assert statistics.median(medians) == summary["reference_median_us"]
    assert noise_floor(medians) == summary["noise_floor_ratio"]


def test_median_interval_is_that_of_the_summary() -> None:
    times = [[100.0 + i % 5 for i in range(30)] for _ in range(3)]
    summary = summarize([run(one) for one in times])
    assert summary["ci95"] == summary["intervals"]["p50"]
    assert summary["ci95"] == list(median_interval(times))


def test_processor_times_are_kept_when_every_process_took_them() -> None:
    both = [run([100.0, 102.0], cpu_times_us=(90.0, 91.0))] * 3
    assert summarize(both)["all_inference_cpu_times_us"] == [[90.0, 91.0]] * 3
    assert "all_inference_cpu_times_us" not in summarize([*both, run([100.0, 102.0])])
    with pytest.raises(BadMeasurement, match="processor times"):
        summarize([run([100.0], cpu_times_us=(-1.0,))])
