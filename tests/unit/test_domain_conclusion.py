"""Verdicts and the words of a result: what is shown first, what is said of a number."""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.conclusion import conclude, open_result
from farm.domain.errors import ConversionFailed, FarmBug
from farm.domain.facts import Format
from farm.domain.plan import Plan, PlannedStep
from farm.domain.progress import StepPhase, StepState
from farm.domain.recipe import RECIPES
from farm.domain.verdict import Verdict, is_degraded, judge, numerics_failed
from tests.domain_run import Run, numerics
from tests.domain_world import file, model, planned

VALID, LOADED = {"valid": True}, {"valid": False}


def told(recipe: str = "int8-static", sqnr_db: float | None = 30.0, **changes: Any) -> list[Verdict]:
    given_ = {"numerics": numerics(sqnr_db), "accuracy": None, "conditions": VALID, "is_slower": False} | changes
    return judge(recipe, **given_)


def score(value: float, float_value: float = 1.0) -> dict[str, Any]:
    return {"metric": "top1", "value": value, "float_value": float_value, "samples": 100}


@pytest.mark.parametrize(("name", "bar_db"), [(r.name, r.degraded_below_db) for r in RECIPES.values()])
def test_a_result_is_degraded_under_its_recipes_bar(name: str, bar_db: float) -> None:
    assert told(name, bar_db) == [Verdict.OK]
    assert told(name, bar_db - 0.1) == [Verdict.DEGRADED]
    assert told(name, None) == [Verdict.DEGRADED]


def test_bars_are_those_of_the_report() -> None:
    assert RECIPES["float32"].degraded_below_db == 60.0
    assert RECIPES["float16"].degraded_below_db == 40.0
    assert {r.degraded_below_db for r in RECIPES.values() if r.name.startswith("int")} == {20.0}


@pytest.mark.parametrize(("sqnr_db", "is_failed"), [(30.0, False), (29.9, True), (None, True), (-5.0, True)])
def test_only_a_float_result_fails_by_its_numerics(sqnr_db: float | None, is_failed: bool) -> None:
    assert numerics_failed("float32", numerics(sqnr_db)) == is_failed
    assert not numerics_failed("int8-static", numerics(sqnr_db))


def test_outputs_without_elements_on_both_sides_are_alike() -> None:
    empty = numerics(None) | {"elements": 0}

    assert not numerics_failed("float32", empty)
    assert not is_degraded("float32", empty, None)
    assert numerics_failed("float32", empty | {"elements": 4})


@pytest.mark.parametrize(("value", "verdict"), [(0.99, Verdict.OK), (0.989, Verdict.DEGRADED)])
def test_a_result_keeps_99_percent_of_the_float_score(value: float, verdict: Verdict) -> None:
    assert told(accuracy=score(value)) == [verdict]
    assert told(accuracy=score(value / 2, 0.5)) == [verdict]


@pytest.mark.parametrize(("value", "verdict"), [(0.1, Verdict.OK), (0.2, Verdict.OK), (0.21, Verdict.DEGRADED)])
def test_an_error_is_better_when_it_is_lower(value: float, verdict: Verdict) -> None:
    assert told(accuracy=score(value, 0.2) | {"metric": "mae"}) == [verdict]


def test_what_is_slower_than_float_is_said_so_but_never_of_float_itself() -> None:
    assert told(is_slower=True) == [Verdict.SLOWER_THAN_FLOAT]
    assert told(is_slower=False) == [Verdict.OK]
    assert told("float32", 100.0, is_slower=True) == [Verdict.OK]


@given(
    st.sampled_from(sorted(RECIPES)),
    st.none() | st.floats(-20, 200),
    st.sampled_from(({}, VALID, LOADED, {"valid": None})),
    st.booleans(),
    st.none() | st.floats(0, 1),
)
def test_all_verdicts_that_hold_are_listed_in_the_order_of_precedence(
    recipe: str, sqnr_db: float | None, conditions: dict[str, Any], is_slower: bool, value: float | None
) -> None:
    found = told(
        recipe,
        sqnr_db,
        conditions=conditions,
        is_slower=is_slower,
        accuracy=None if value is None else score(value),
    )

    assert found == sorted(found, key=list(Verdict).index)
    assert len(set(found)) == len(found) >= 1
    assert (Verdict.OK in found) == (found == [Verdict.OK])
    assert (Verdict.INVALID_MEASUREMENT in found) == (conditions.get("valid") is not True)


def finish(plan: Plan, **found: Any) -> Run:
    """End every step well; `float_us` and `int8_us` are the medians, the rest goes to all steps."""
    medians = {"float32": found.pop("float_us", 1000.0), "int8-static": found.pop("int8_us", 500.0)}

    def end(run: Run, step: PlannedStep) -> None:
        if step.kind == "measure":
            recipe = next(r for r in medians if r in step.title)
            run.succeed(step, median_us=medians[recipe], **found)
        else:
            run.succeed(step)

    return Run(plan).finish(end)


def test_a_result_tells_files_contract_numbers_and_conditions() -> None:
    run = finish(planned(runtimes=("lite",)))

    body = run.body("lite", "int8-static")

    branch = run.plan.results[1].branches[0]
    made = run.states[branch.artifact.step or ""].outputs["model"]
    assert (body["state"], body["verdict"]) == ("succeeded", "ok")
    assert body["artifact"]["files"] == [
        {"name": f.name, "sha256": f.sha256, "size_bytes": f.size_bytes} for f in made.files
    ]
    assert body["artifact"]["contract_changes"] == [
        "input image: axis 0 (N) fixed at 1",
        "output scores: float64 became float32",
    ]
    assert body["execution_summary"]["versus_float"] == pytest.approx(2.0)
    assert body["conditions"]["valid"] is True
    assert [step["stage"] for step in body["steps"]][:2] == ["onnx-to-tflite", "quantize-tflite"]


def test_a_source_that_is_accepted_as_it_is_is_the_artifact() -> None:
    run = finish(planned(runtimes=("ort",), recipes=("float32",)))

    body = run.body("ort", "float32")

    assert body["artifact"]["files"][0]["sha256"] == file("net.bin").digest
    assert body["execution_summary"]["versus_float"] == 1.0


def test_slower_int8_is_said_so() -> None:
    run = finish(planned(runtimes=("ort",)), float_us=1000.0, int8_us=1500.0)

    assert run.body("ort", "int8-static")["verdict"] == "slower-than-float"
    assert run.body("ort", "int8-static")["execution_summary"]["versus_float"] == pytest.approx(1 / 1.5)


def test_numbers_of_a_busy_machine_are_shown_as_invalid_and_not_compared() -> None:
    run = finish(planned(runtimes=("ort",)), valid=False)

    for recipe in ("float32", "int8-static"):
        body = run.body("ort", recipe)
        assert (body["state"], body["verdict"]) == ("succeeded", "invalid-measurement")
        assert body["conditions"]["reasons"] == ["loaded"]
        assert body["execution_summary"]["versus_float"] is None


def test_files_as_fast_as_float_within_the_noise_are_not_called_slower_by_a_coin_toss() -> None:
    run = finish(planned(runtimes=("ort",)), float_us=1000.0, int8_us=1010.0)

    body = run.body("ort", "int8-static")

    assert (body["verdict"], body["execution_summary"]["versus_float"]) == ("ok", pytest.approx(1 / 1.01))
    assert body["notes"][-1] == "As fast as float32 within 3%, by which such measurements vary."


def concluded(float_times: list[float], int8_times: list[float], **references: list[float]) -> dict[str, Any]:
    """Conclude an int8 whose processes took these times each, beside a reference model's (float32's, its own)."""
    run = finish(planned(runtimes=("ort",)))
    both = ((0, float_times, "beside_float"), (1, int8_times, "beside_int8"))
    for index, times, beside in both:
        facts = run.states[run.plan.results[index].branches[0].measure].facts
        levels = references.get(beside, [400.0] * 3)
        facts["execution_summary"] |= {
            "estimated_inference_time": statistics.median(times),
            "all_inference_times": [[time] * 2 for time in times],
            "all_reference_times_us": [[level] * 2 for level in levels],
        }
    return conclude(run.plan, run.progress, 1, run.states)


def test_a_reference_model_that_varies_more_than_the_file_hides_no_slowness() -> None:
    """A sixth slower, process for process, beside a reference of which each run differs by a few percent."""
    shaken = {"beside_float": [400.0, 420.0, 385.0], "beside_int8": [420.0, 384.0, 401.0]}

    body = concluded([40.0, 40.6, 41.0], [47.0, 47.5, 46.8], **shaken)

    assert body["verdict"] == "slower-than-float"


def test_a_host_that_changed_its_pace_between_two_measurements_makes_no_file_slower() -> None:
    slowed = {"beside_float": [400.0, 420.0, 385.0], "beside_int8": [470.0, 448.0, 490.0]}

    body = concluded([40.0, 40.6, 41.0], [47.0, 47.5, 46.8], **slowed)

    assert body["verdict"] == "ok"


def test_a_file_that_took_longer_says_so_though_the_noise_is_larger() -> None:
    body = concluded([40.0, 48.0, 41.0], [43.0, 48.0, 47.0])

    assert body["verdict"] == "ok"
    assert body["notes"][-1].startswith("It may be slower than float32: it took 1.15x its time, and such measurements")


@pytest.mark.parametrize(
    ("int8_us", "note"),
    [
        (1200.0, "It may be slower than float32: it took 1.20x its time, but that of float32 does not count (loaded)."),
        (600.0, "Whether it is faster than float32 is not known: that of float32 does not count (loaded)."),
    ],
)
def test_where_floats_measurement_does_not_count_the_result_says_what_that_leaves_open(
    int8_us: float, note: str
) -> None:
    run = finish(planned(runtimes=("ort",)), float_us=1000.0, int8_us=int8_us)
    facts = run.states[run.plan.results[0].branches[0].measure].facts
    facts["conditions"] |= {"valid": False, "reasons": ["loaded"]}

    body = conclude(run.plan, run.progress, 1, run.states)

    assert (body["verdict"], body["execution_summary"]["versus_float"]) == ("ok", None)
    assert body["notes"][-1] == note


def on_two_hosts(**summary: Any) -> dict[str, Any]:
    """Conclude an int8 that takes 1.5 times as long as its float32, on a board that is twice as fast."""
    run = finish(planned(runtimes=("ort",)), float_us=1000.0, int8_us=750.0)
    for index, level in ((0, 400.0), (1, 200.0)):
        facts = run.states[run.plan.results[index].branches[0].measure].facts
        facts["conditions"]["host"] = "old" if index == 0 else "new"
        facts["execution_summary"] |= {"reference_median_us": level, "all_reference_times_us": [[level] * 9] * 3}
        facts["execution_summary"] |= summary
    return conclude(run.plan, run.progress, 1, run.states)


def test_of_two_hosts_the_reference_models_beside_both_tell_what_is_slower() -> None:
    body = on_two_hosts()

    assert (body["verdict"], body["execution_summary"]["versus_float"]) == (
        "slower-than-float",
        pytest.approx(1 / 1.5),
    )
    assert body["notes"][-1] == (
        "Measured on host new, its float32 on host old: both were divided by their reference model's time."
    )


def test_times_of_two_hosts_without_a_reference_are_not_compared_and_that_is_said() -> None:
    body = on_two_hosts(reference_median_us=None, all_reference_times_us=[])

    assert (body["verdict"], body["execution_summary"]["versus_float"]) == ("ok", None)
    assert "their times are not compared" in body["notes"][-1]


def test_no_step_of_a_result_that_ended_is_left_under_way() -> None:
    run = Run(planned(recipes=("float32",), runtimes=("ort",)))
    (branch,) = run.plan.results[0].branches
    checks = {check.step for check in branch.checks}
    own = [key for key in branch.steps if key not in checks]
    phases = dict(zip(own, ("failed", "running", "published", "ready", "waiting"), strict=False))
    run.states |= {key: replace(run.states[key], phase=StepPhase.SKIPPED) for key in checks if key}
    for key, phase in phases.items():
        run.states[key] = StepState(key, key, run.plan.steps[key].stage, StepPhase(phase))

    steps = conclude(run.plan, run.progress, 0, run.states)["steps"]

    assert [step["state"] for step in steps if step["key"] in phases] == [
        "failed",
        "cancelled",
        *["skipped"] * (len(phases) - 2),
    ]


def test_a_result_under_way_says_how_far_it_is() -> None:
    run = Run(planned(runtimes=("lite",), recipes=("float32",)))
    assert open_result(run.plan, run.progress, 0, run.states)["state"] == "waiting"

    run.succeed(next(step for step in run.ready if step.stage == "onnx-to-tflite"))

    told_ = open_result(run.plan, run.progress, 0, run.states)
    assert (told_["state"], told_["verdict"]) == ("running", None)
    assert {step["state"] for step in told_["steps"]} == {"succeeded", "ready", "waiting"}


def test_a_transform_that_gave_no_model_is_a_bug_and_said_so() -> None:
    run = finish(planned(runtimes=("lite",), recipes=("float32",)))
    key = run.plan.results[0].branches[0].artifact.step or ""
    run.states[key].outputs.pop("model")  # type: ignore[attr-defined]

    with pytest.raises(FarmBug, match="gave no output 'model'"):
        conclude(run.plan, run.progress, 0, run.states)


def test_every_attempt_of_every_route_is_told_with_its_tools_arguments_and_failure() -> None:
    failure = ConversionFailed("No Loop.", operator="Loop", log_tail="E: Loop", tool="converter").failure

    def end(run: Run, step: PlannedStep) -> None:
        if step.stage == "onnx-to-tflite":
            run.fail(step, failure)
        else:
            run.succeed(step)

    body = Run(planned(runtimes=("lite",), recipes=("float32",))).finish(end).body("lite", "float32")

    bad, *_ = body["steps"]
    assert body["verdict"] == "ok"
    assert bad["tools"] == [{"name": "converter", "version": "2.0"}]
    assert bad["arguments"]["threads"] == 1
    assert "input_specs" not in bad["arguments"]
    assert (bad["failure_type"], bad["who_must_act"], bad["message"]) == ("conversion-failed", "toolchain", "No Loop.")
    assert bad["evidence"] == {"operator": "Loop", "log_tail": "E: Loop", "tool": "converter"}
    assert {step["where"] for step in body["steps"] if step["stage"] == "compare-lite"} == {"build", "target"}
    assert all(step["log"] is None for step in body["steps"] if step["state"] == "skipped")


def test_a_failed_step_can_be_repeated_by_the_command_it_shows(tmp_path: Path) -> None:
    run = Run(planned(model("net", Format.TORCH_EXPORTED_PROGRAM), runtimes=("lite",), recipes=("float32",)))

    def end(run: Run, step: PlannedStep) -> None:
        if step.stage == "onnx-to-tflite":
            run.fail(step, ConversionFailed("No Loop.").failure)
        else:
            run.succeed(step)

    body = run.finish(end).body("lite", "float32")
    (bad,) = (step for step in body["steps"] if step["stage"] == "onnx-to-tflite")
    prepare, found, last = bad["reproduce"].rpartition(" && ")
    subprocess.run(["sh", "-c", prepare], cwd=tmp_path, check=True)

    assert found
    assert last == ".envs/builder/bin/python -m workers.stages.harness work"
    call = json.loads((tmp_path / "work" / "call.json").read_text())
    step = run.plan.steps[bad["key"]]
    made = run.states[step.inputs[0].step or ""].outputs["model"]
    assert call == {
        "stage": "onnx-to-tflite",
        "options": step.options,
        "files": {"model": made.files[0].name},
        "profile": {},
        "contract": None,
    }
