"""A whole measurement by real processes of ONNX Runtime: scenarios, threads, memory and a sustained run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from farm.domain.codec import decode
from farm.domain.errors import ToolchainError
from farm.domain.operators import ComputeUnit, OperatorProfile, OperatorTime, execution_detail
from farm.domain.statistics.recomputation import recompute
from farm.domain.statistics.stability import StabilityRule
from hardware_profiles.loader import load_profiles
from tests import report_samples as samples
from tests.stage_fixtures import Call, run_call
from workers.measuring import Bench
from workers.results import Made
from workers.runtimes import Profiling, litert
from workers.runtimes.litert_operators import operators_of
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
        made = bench.measure(once, runtime="onnxruntime", options=asked)
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


@pytest.mark.parametrize(
    ("runtime", "slowest"),
    [("onnxruntime", "Conv"), ("openvino", "Convolution"), ("litert", "Convolution (NHWC, F32) IGEMM")],
)
def test_the_operators_are_timed_by_the_runtimes_own_profiler(runtime: str, slowest: str, tmp_path: Path) -> None:
    told = profiled(runtime, tmp_path)["execution_detail"]

    assert {one["compute_unit"] for one in told} == {"CPU"}
    assert max(told, key=lambda one: one["execution_time"])["type"] == slowest
    assert all(one["execution_time"] >= 0 for one in told)


def test_an_int8_model_of_many_operators_has_each_of_them_timed(tmp_path: Path) -> None:
    model = Path(__file__).parents[1] / "edgetpu_pairs" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    call = Call("measure-litert", {"model": model}, {"mode": "profile", "threads": 2})
    told = execution_detail(decode(OperatorProfile, run_call("litert", call, tmp_path).facts))["execution_detail"]

    assert len(told) > 50
    assert sum(one["execution_time"] for one in told) > 1000


def test_a_litert_without_its_profiler_lists_its_operators_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, asked: Profiling) -> tuple[OperatorTime, ...]:
        raise ToolchainError("libLiteRt.so has no function LiteRtStartProfiler.")

    class Listed:
        def __init__(self, path: Path, *, threads: int) -> None:
            assert threads == 3

        def operators(self) -> tuple[OperatorTime, ...]:
            return (OperatorTime("scores", "SOFTMAX", ComputeUnit.CPU, None),)

    monkeypatch.setattr(litert, "timed_operators", refuse)
    monkeypatch.setattr(litert, "LiteRtSession", Listed)
    told = litert.profile(reference_model("litert"), Profiling({}, Path(), 3, 10))

    assert [(one.type, one.time_us) for one in told.operators] == [("SOFTMAX", None)]
    assert told.note == "The operators have no times: libLiteRt.so has no function LiteRtStartProfiler."


def test_operators_are_told_apart_by_their_place_in_a_call() -> None:
    once = [("Conv", 5), ("Conv", 9), ("Softmax", 1)]
    told = operators_of([*once, ("Conv", 7), ("Conv", 11), ("Softmax", 3)], calls=2)

    assert [(one.name, one.time_us) for one in told] == [("Conv #0", 6.0), ("Conv #1", 10.0), ("Softmax #2", 2.0)]
    with pytest.raises(ToolchainError, match="5 operators, which are not those of 2 calls"):
        operators_of([*once, *once[:2]], calls=2)
    with pytest.raises(ToolchainError, match="not those of 2 calls"):
        operators_of([*once, *reversed(once)], calls=2)
