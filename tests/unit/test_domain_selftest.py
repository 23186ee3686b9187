"""What a self-test says of a host: its own history decides what is a drift, and a single one decides nothing."""

from __future__ import annotations

from typing import Any

import pytest

from farm.domain.selftest import IN_INTEGERS, figures_of, judge
from farm.ledger.selftests import RUNTIMES
from tests import report_samples as samples
from workers.runtimes.reference_model import INTEGER, self_test_model

HOST = "bench-1"


def figures(p50_us: float = 1000.0, **changes: Any) -> dict[str, Any]:
    made = {"p50_us": p50_us, "noise_floor_ratio": 0.04, "valid": True, "emulated": False, "failure": None}
    return made | {"invalid_reasons": [], "sqnr_db": 141.0, "failed_on": None} | changes


STEADY = [figures(p50) for p50 in (1010.0, 995.0, 1003.0, 990.0)]


def test_a_host_like_itself_passes_and_so_does_one_without_a_history() -> None:
    assert judge(HOST, figures(1040.0), STEADY).verdict == "passed"
    assert judge(HOST, figures(9000.0), STEADY[:2]).verdict == "passed"


def test_a_first_drift_is_tested_again_and_a_second_one_quarantines() -> None:
    first = judge(HOST, figures(1300.0), STEADY)
    second = judge(HOST, figures(1290.0), [figures(1300.0, drifts=True), *STEADY])

    assert (first.verdict, first.repeats, first.quarantines) == ("failed", True, False)
    assert (second.verdict, second.repeats, second.quarantines) == ("failed", False, True)
    assert "1300 µs, 1.30 times its median of the last 4 self-tests" in first.reasons[0]


def test_a_host_that_became_faster_drifts_too() -> None:
    assert judge(HOST, figures(700.0), STEADY).repeats


def test_a_noisy_host_is_allowed_its_noise() -> None:
    noisy = [figures(p50, noise_floor_ratio=0.4) for p50 in (1010.0, 995.0, 1003.0)]

    assert judge(HOST, figures(1300.0), noisy).verdict == "passed"


def test_drifted_and_invalid_tests_are_no_history() -> None:
    history = [figures(1300.0, drifts=True), figures(5000.0, valid=False), *STEADY[:2]]

    assert judge(HOST, figures(1010.0), history).verdict == "passed"
    assert judge(HOST, figures(5000.0), history).verdict == "passed", "two valid ones are too few to judge by"


@pytest.mark.parametrize("code", ["numerics-broken", "artifact-broken", "tool-crashed", "host-lost", "bad-measurement"])
def test_wrong_outputs_and_crashes_quarantine_at_once(code: str) -> None:
    finding = judge(HOST, figures(failure=code, message="scores differ by 3 dB"), STEADY)

    assert (finding.verdict, finding.quarantines) == ("failed", True)
    assert "scores differ by 3 dB" in finding.reasons[0]


@pytest.mark.parametrize("code", ["no-live-host", "environment-missing", "farm-bug", "cancelled", "refused"])
def test_what_is_not_the_hosts_fault_quarantines_nobody(code: str) -> None:
    finding = judge(HOST, figures(failure=code, message="nobody builds"), STEADY)

    assert (finding.verdict, finding.quarantines, finding.repeats) == ("inconclusive", False, False)


def test_a_busy_host_is_not_judged_and_the_reasons_are_told() -> None:
    finding = judge(HOST, figures(9000.0, valid=False, invalid_reasons=["loaded", "unstable"]), STEADY)

    assert (finding.verdict, finding.quarantines) == ("inconclusive", False)
    assert "loaded, unstable" in finding.reasons[0]


def test_an_emulated_host_is_judged_by_its_outputs_alone() -> None:
    assert judge(HOST, figures(90_000.0, emulated=True, valid=False), STEADY).verdict == "passed"
    assert judge(HOST, figures(90_000.0, emulated=True, failure="numerics-broken"), STEADY).quarantines


def test_figures_are_those_of_the_report() -> None:
    result = samples.result()
    told = figures_of(result)

    assert told["p50_us"] == result["execution_summary"]["p50"]
    assert told["valid"] is result["conditions"]["valid"]
    assert figures_of({"verdict": "failed", "failure_type": "host-lost", "message": "gone"})["failure"] == "host-lost"


def test_a_float_reference_under_60_db_fails_and_is_no_drift() -> None:
    finding = judge(HOST, figures(sqnr_db=41.3), STEADY)

    assert (finding.verdict, finding.quarantines, finding.drifts) == ("failed", True, False)
    assert "reaches 41.3 dB here; 60 dB are needed" in finding.reasons[0]
    assert judge(HOST, figures(sqnr_db=60.0), STEADY).verdict == "passed"
    assert judge(HOST, figures(sqnr_db=41.3, emulated=True), STEADY).quarantines


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_quantum_of_a_model_in_integers_is_no_fault_of_its_host(runtime: str) -> None:
    in_integers = self_test_model(runtime).name == INTEGER

    assert (runtime in IN_INTEGERS) is in_integers
    assert judge(HOST, figures(sqnr_db=45.0, runtime=runtime), STEADY).quarantines is not in_integers


def test_a_test_whose_outputs_nobody_compared_does_not_pass() -> None:
    assert judge(HOST, figures(sqnr_db=None), STEADY).verdict == "inconclusive"


def failed_with(code: str, **told: Any) -> dict[str, Any]:
    return {"verdict": "failed", "failure_type": code, "message": "it broke", **told}


def test_what_broke_on_the_builder_is_not_charged_to_the_tested_host() -> None:
    steps = [samples.step("inspect-onnx"), samples.step("reference-onnx", state="failed", host="builder-1")]
    crashed = figures_of(failed_with("tool-crashed", steps=steps))
    here = figures_of(failed_with("tool-crashed", steps=[samples.step("measure-onnxruntime", state="failed")]))

    finding = judge(HOST, crashed, STEADY)
    assert (finding.verdict, finding.quarantines) == ("inconclusive", False)
    assert finding.reasons == ("A step of the test failed on builder-1, not on this host: it broke",)
    assert judge(HOST, here, STEADY).quarantines


def test_numerics_are_charged_to_the_host_of_the_comparison_that_fell_short() -> None:
    at_builder = [samples.stage_numerics("onnx-to-tflite", 12.0), samples.stage_numerics("x", 12.0, where="target")]
    on_target = [samples.stage_numerics("onnx-to-tflite", 90.0), samples.stage_numerics("x", 12.0, where="target")]
    elsewhere, there = (
        figures_of(failed_with("numerics-broken", numerics={"by_stage": by_stage}))
        for by_stage in (at_builder, on_target)
    )

    assert (elsewhere["failed_on"], there["failed_on"]) == ("builder-1", "pi-5")
    assert judge("pi-5", elsewhere, STEADY).verdict == "inconclusive"
    assert judge("pi-5", there, STEADY).quarantines
