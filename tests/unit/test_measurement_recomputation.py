"""Statistics computed twice by independent code, and what no report may say."""

from __future__ import annotations

import ast
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.domain.generation import GenerationRun, generation
from farm.domain.measurement import Ended, ProcessRun, summarize
from farm.domain.scenario import Asked, Scenario
from farm.domain.statistics import recomputation
from farm.domain.statistics.energy import EnergyRun, Reading, energy
from farm.domain.statistics.recomputation import recompute
from farm.domain.statistics.stability import Ending, StabilityRule
from farm.domain.statistics.sustained import SustainedRun, Window, sustained
from farm.report.model import Result
from farm.report.schema import violations
from tests import report_samples as samples
from tests.measurement_samples import LOADED, QUIET, Noise, measured, summary_of
from workers.further import SWEPT


def report_of(*summaries: dict[str, Any]) -> dict[str, Any]:
    recipes = ("float32", "int8-static", "float16")
    return samples.report(
        *(samples.result(recipe, execution_summary=one) for recipe, one in zip(recipes, summaries, strict=False))
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([QUIET, LOADED]), st.integers(2, 6), st.integers(1, 120))
def test_both_computations_agree(seed: int, noise: Noise, processes: int, count: int) -> None:
    drawn = measured(random.Random(seed), noise, processes=processes, samples=count)
    differences, computed = recompute(report_of(summary_of(drawn)))
    assert differences == []
    assert computed >= 14


def test_they_agree_on_the_longest_tails_and_on_the_stability_rule() -> None:
    generator = random.Random(1)
    runs = [
        ProcessRun(tuple(generator.expovariate(1 / 500) + 1000 for _ in range(900)), 2e4, None, 3e3, None, 1)
        for _ in range(3)
    ]
    summary = summarize(runs, ended=Ended(StabilityRule(), Ending.NARROW, 3.0))
    assert summary["p999"] is None
    longer = summarize([*runs, *runs][:4], ended=Ended(StabilityRule(), Ending.NARROW, 3.0))
    assert longer["p999"] is not None
    for one in (summary, longer):
        assert recompute(report_of(one))[0] == []


def test_batched_samples_tell_no_tails_in_either() -> None:
    runs = [ProcessRun((5.0, 6.0) * 300, 2e4, 1e4, 3e3, None, 1, batch=16) for _ in range(3)]
    assert recompute(report_of(summarize(runs)))[0] == []


@pytest.mark.parametrize(
    "field",
    ["p50", "estimated_inference_time", "p90", "process_spread_ratio", "first_load_time", "warm_load_time",
     "first_inference_us", "reference_median_us", "reference_spread_ratio", "noise_floor_ratio"],
)  # fmt: skip
def test_any_statistic_that_is_changed_is_named(field: str) -> None:
    summary = summary_of(measured(random.Random(2), QUIET))
    report = report_of(summary | {field: summary[field] * (1 + 1e-6)})
    assert [difference.field for difference in recompute(report)[0]] == [field]


def test_changed_intervals_tails_and_ratios_are_named() -> None:
    generator = random.Random(3)
    base, other = (summary_of(measured(generator, QUIET, factor=factor)) for factor in (1.0, 0.5))
    ratio = base["p50"] / other["p50"]
    assert recompute(report_of(base | {"versus_float": 1.0}, other | {"versus_float": ratio}))[0] == []
    low, high = base["ci95"]
    changed = base | {"ci95": [low, high * 1.001], "p99": 1.0}
    report = report_of(changed, other | {"versus_float": ratio * 1.1})
    assert [(d.result.rpartition("/")[2], d.field) for d in recompute(report)[0]] == [
        ("float32", "p99"), ("float32", "ci95"), ("int8-static", "versus_float"),
    ]  # fmt: skip


def test_ratios_across_hosts_are_of_multiples_of_the_reference_model() -> None:
    generator = random.Random(4)
    base, other = (summary_of(measured(generator, QUIET, factor=factor)) for factor in (1.0, 0.5))
    ratio = base["p50"] / other["p50"] * other["reference_median_us"] / base["reference_median_us"]
    report = report_of(base | {"versus_float": 1.0}, other | {"versus_float": ratio})
    assert [difference.field for difference in recompute(report)[0]] == ["versus_float"]
    report["results"][1]["conditions"] = report["results"][1]["conditions"] | {"host": "another"}
    assert recompute(report)[0] == []


def test_a_server_s_figures_a_decoder_s_and_the_modes_are_computed_again() -> None:
    generator = random.Random(5)
    two = tuple(generator.gauss(1000, 5) if at % 3 else generator.gauss(3000, 9) for at in range(120))
    runs = [ProcessRun(two, 2e4, None, 3e3, None, 1, samples=120, elapsed_s=rate) for rate in (2.0, 3.0, 2.5)]
    asked = Asked(Scenario.SERVER, target_qps=50.0, latency_bound_ms=2.0)
    written = GenerationRun(4, (900.0, 950.0), ((100.0, 110.0), (105.0, 90.0)), None, (1, 2, 3))
    summary = summarize(runs, asked=asked) | {"generation": generation(written)}
    assert summary["distribution"]["mode_shares"] is not None
    assert summary["met"] is False
    assert recompute(report_of(summary))[0] == []

    changed = summary | {
        "met": True,
        "samples_per_s": 1.0,
        "generation": summary["generation"] | {"tokens_per_second": 1},
    }
    changed["distribution"] = summary["distribution"] | {"mode_shares": [0.5, 0.5]}
    assert {difference.field for difference in recompute(report_of(changed))[0]} == {
        "met", "samples_per_s", "generation.tokens_per_second", "distribution.mode_shares",
    }  # fmt: skip


def test_the_second_computation_knows_nothing_of_the_first() -> None:
    tree = ast.parse(Path(recomputation.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("emulated", [True, None, "no", 0])
def test_the_schema_lets_no_emulated_or_unknown_machine_give_a_valid_measurement(emulated: Any) -> None:
    report = report_of(summary_of(measured(random.Random(4), QUIET)))
    assert violations(report) == []
    conditions = report["results"][0]["conditions"]
    conditions["emulated"] = emulated
    assert any("conditions" in problem for problem in violations(report))
    conditions["valid"] = False
    assert not any("conditions/valid" in problem for problem in violations(report))


def test_the_schema_lets_no_measurement_be_silent_about_emulation() -> None:
    report = report_of(summary_of(measured(random.Random(4), QUIET)))
    del report["results"][0]["conditions"]["emulated"]
    assert any("'emulated' is a required property" in problem for problem in violations(report))


@pytest.mark.parametrize("missing", ["all_inference_times", "first_load_time", "p90"])
def test_the_schema_takes_no_prediction_for_a_measurement(missing: str) -> None:
    """A prediction has no samples of independent processes and loaded nothing, so it can't fill the summary."""
    report = report_of(summary_of(measured(random.Random(4), QUIET)))
    del report["results"][0]["execution_summary"][missing]
    assert any(f"'{missing}' is a required property" in problem for problem in violations(report))


def test_a_time_that_is_marked_as_predicted_is_never_valid() -> None:
    body = samples.result(execution_summary=samples.summary(predicted=True))
    with pytest.raises(ValueError, match="predicted time is not a measurement"):
        Result.model_validate(body)
    body["conditions"] = samples.conditions(valid=False, reasons=("unknown-state",), emulated=None)
    assert not Result.model_validate(body).is_valid


def further_summary() -> dict[str, Any]:
    """Give a summary with everything that a measurement may hold beside its latencies."""
    generator = random.Random(5)
    times = tuple(2000.0 if generator.random() < 0.6 else 3000.0 + generator.random() for _ in range(400))
    told = summarize([ProcessRun(times, 2e4, 1e4, 3e3, None, threads) for threads in (1, 1, 1)])
    swept = [{"threads": 1, **{name: told[name] for name in SWEPT[1:]}}, {"threads": 64, "why_not": "2 cores."}]
    windows = tuple(
        Window(10.0 * n, tuple(1000.0 + 400 * (n > 6) + generator.random() for _ in range(50))) for n in range(12)
    )
    readings = [Reading(float(tick), 3.0 * min(tick, 5) + 8.0 * max(0, tick - 5)) for tick in range(12)]
    return {
        **told,
        "threads_sweep": swept,
        "sustained": sustained(SustainedRun(0.0, 10.0, windows)),
        "energy": energy(readings, idle=(0.5, 4.5), run=EnergyRun(5.5, 10.5, 40)),
    }


def test_both_computations_agree_on_what_is_measured_beside_the_latencies() -> None:
    told = further_summary()
    differences, count = recompute(samples.report(samples.result(execution_summary=told)))

    assert told["distribution"]["named"] == ["two-modes"]
    assert told["sustained"]["time_to_throttle_s"] == 70.0
    assert told["energy"]["energy_per_inference_mj"] == pytest.approx(625.0)
    assert differences == []
    assert count > 40


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("distribution", "drift_ratio"), "distribution.drift_ratio"),
        (("distribution", "modes_us"), "distribution.modes_us"),
        (("threads_sweep", 0, "p90"), "threads_sweep.1.p90"),
        (("sustained", "steady_state_ratio"), "sustained.steady_state_ratio"),
        (("sustained", "time_to_throttle_s"), "sustained.time_to_throttle_s"),
        (("sustained", "windows", 2, "p50"), "sustained.20.p50"),
        (("energy", "energy_per_inference_mj"), "energy.energy_per_inference_mj"),
    ],
)
def test_what_is_changed_there_is_named_too(path: tuple[Any, ...], named: str) -> None:
    told = further_summary()
    place: Any = told
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = [1.0, 2.0] if path[-1] == "modes_us" else 0.123

    (difference,) = recompute(samples.report(samples.result(execution_summary=told)))[0]
    assert difference.field == named
