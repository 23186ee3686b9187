"""A whole measurement by real processes of ONNX Runtime: scenarios, threads, memory and a sustained run."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from farm.domain.codec import decode
from farm.domain.operators import OperatorProfile, execution_detail
from farm.domain.statistics.recomputation import recompute
from farm.domain.statistics.stability import StabilityRule
from hardware_profiles.loader import load_profiles
from tests import report_samples as samples
from tests.stage_fixtures import Call, run_call
from workers.measuring import Bench
from workers.results import Made
from workers.runtimes.reference_model import reference_model

pytestmark = pytest.mark.toolchain
RULE = StabilityRule(processes_max=3)
QUICK = {"min_runs": 12, "min_s": 0.1, "max_s": 5.0}

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Measure the reference model itself, without the sandbox, with the options given."""
    model = {"model": reference_model("onnxruntime")}
    runs = 0

    def once(files: Mapping[str, Path] | None, changes: Mapping[str, Any], cores: tuple[int, ...]) -> Made:
        nonlocal runs
        runs += 1
        call = Call("measure-onnxruntime", dict(files or model), {**asked, **changes, **QUICK})
        return Made(facts=run_call("onnxruntime", call, tmp_path / str(runs)).facts, cpu_s=0.1)

    def measured(**options: Any) -> dict[str, Any]:
        asked.update(options)
        bench = Bench("host-1", load_profiles()["x86-64-v3"], RULE)
        made = bench.measure(once, runtime="onnxruntime", options=asked, stop=threading.Event())
        return dict(made.facts)

    asked: dict[str, Any] = {"threads": 1}
    return measured


def test_one_measurement_holds_times_memory_a_sweep_and_a_sustained_run(measure: Measure) -> None:
    facts = measure(threads_sweep=[1, 4096], sustained_s=2.0)
    told = facts["execution_summary"]
    assert len(told["all_inference_times"]) == len(told["all_reference_times_us"]) == 3
    assert told["first_load_time"] > 0
    assert told["inference_memory_peak_range"][0] >= told["inference_memory_pss_bytes"] > 20_000_000
    assert {one["type"] for one in facts["execution_detail"]} >= {"Conv", "MatMul"}
    assert sum(one["execution_time"] for one in facts["execution_detail"]) > 0
    one, many = told["threads_sweep"]
    assert (one["threads"], len(one["all_inference_times"])) == (1, 3)
    assert f"{os.cpu_count()}" in many["why_not"] or "core" in many["why_not"]
    assert len(told["sustained"]["windows"]) == 10
    assert told["sustained"]["steady_state_ratio"] > 0
    result = samples.result(execution_summary=told, conditions=facts["conditions"])
    assert recompute(samples.report(result))[0] == []


@pytest.mark.parametrize(
    ("options", "figure"),
    [
        ({"scenario": "multi_stream", "samples_per_query": 2}, "samples_per_query"),
        ({"scenario": "offline"}, "samples_per_s"),
        ({"scenario": "server", "target_qps": 40.0, "latency_bound_ms": 100.0}, "target_qps"),
    ],
    ids=["multi_stream", "offline", "server"],
)
def test_every_scenario_is_run_by_real_processes(measure: Measure, options: dict[str, Any], figure: str) -> None:
    told = measure(**options)["execution_summary"]
    assert told["scenario"] == options["scenario"]
    assert told[figure] > 0
    assert told["p90"] >= told["p50"] > 0


def profiled(runtime: str, folder: Path) -> dict[str, Any]:
    call = Call(f"measure-{runtime}", {"model": reference_model(runtime)}, {"mode": "profile"})
    return execution_detail(decode(OperatorProfile, run_call(runtime, call, folder).facts))


@pytest.mark.parametrize(("runtime", "slowest"), [("onnxruntime", "Conv"), ("openvino", "Convolution")])
def test_the_operators_are_timed_by_the_runtimes_own_profiler(runtime: str, slowest: str, tmp_path: Path) -> None:
    told = profiled(runtime, tmp_path)["execution_detail"]

    assert {one["compute_unit"] for one in told} == {"CPU"}
    assert max(told, key=lambda one: one["execution_time"])["type"] == slowest
    assert all(one["execution_time"] >= 0 for one in told)


def test_litert_lists_its_operators_and_says_why_they_have_no_times(tmp_path: Path) -> None:
    told = profiled("litert", tmp_path)

    assert [one["type"] for one in told["execution_detail"]] == ["CONV_2D"] * 3 + ["MEAN", "FULLY_CONNECTED"]
    assert {(one["compute_unit"], one["execution_time"]) for one in told["execution_detail"]} == {("CPU", None)}
    assert "no operator profiler" in told["execution_detail_note"]
