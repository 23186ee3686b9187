"""What the planner makes of the user's samples: refusals before any conversion, parts that share nothing, notes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from farm.domain.stage import Options
from tests.domain_world import CALIBRATION, LABELLED, SPECS, file, model, planned, refused, with_specs

ALONE: dict[str, Any] = {"data": False, "calibration": file("calibration.npz")}


def rows(count: int, start: int = 0) -> list[str]:
    return [f"{number:016x}" for number in range(start, start + count)]


def samples(count: int, start: int = 0, **more: Any) -> dict[str, Any]:
    return {"image": CALIBRATION["image"] | {"shape": [count, 3, 32, 32], "rows": rows(count, start)} | more}


def options_of(plan: Any, stage: str) -> list[dict[str, Any]]:
    return [step.options for step in plan.steps.values() if step.stage == stage]


def test_calibration_alone_keeps_its_report_quarter_for_the_comparison() -> None:
    plan = planned(model(**ALONE, calibration_arrays=samples(16)))

    assert {options["part"] for options in options_of(plan, "reference-onnx")} == {"report"}
    assert {options["reports"] for options in options_of(plan, "quantize-onnx")} == {True}
    assert {branch.compared_on for result in plan.results for branch in result.branches} == {"report"}


def test_beside_evaluation_data_everything_calibrates_or_selects() -> None:
    plan = planned(
        model(calibration_arrays=samples(16), evaluation_arrays=samples(32, 100) | {"labels": LABELLED["labels"]})
    )

    assert {options["part"] for options in options_of(plan, "reference-onnx")} == {None}
    assert {options["reports"] for options in options_of(plan, "quantize-onnx")} == {False}
    assert {branch.compared_on for result in plan.results for branch in result.branches} == {"evaluation"}


def test_a_stage_that_can_not_leave_samples_out_is_not_said_to_have_done_so() -> None:
    calibrating = [name for name, spec in SPECS.items() if "calibration" in spec.inputs]
    world = with_specs(**{name.replace("-", "_"): replace(SPECS[name], options=Options) for name in calibrating})
    plan = planned(model(**ALONE, calibration_arrays=samples(16)), world=world)

    found = {result.recipe: branch.compared_on for result in plan.results for branch in result.branches}
    assert found == {"float32": "report", "int8-static": "calibration"}


def test_few_samples_are_refused_only_where_something_calibrates() -> None:
    few = model(**ALONE, calibration_arrays=samples(15))

    assert refused(few) == [
        "The calibration data holds 15 different samples; 16 are needed, since half of them calibrate, a quarter "
        "selects and a quarter reports."
    ]
    plan = planned(few, recipes=("float32",))
    assert {branch.compared_on for result in plan.results for branch in result.branches} == {"calibration"}


def test_samples_on_both_sides_are_refused_before_any_conversion() -> None:
    shared = samples(32, 10) | {"labels": LABELLED["labels"]}

    (message,) = refused(model(calibration_arrays=samples(16), evaluation_arrays=shared))
    assert message.startswith("6 samples are both calibration and evaluation data")


def test_missing_calibration_names_the_recipes_that_need_none() -> None:
    plan = planned(model(data=False))
    remedies = {result.failure.remedy for result in plan.results if result.failure}

    assert remedies
    assert all(remedy and "int8-dynamic" in remedy for remedy in remedies)


def test_what_is_poor_about_the_data_is_noted_with_every_result() -> None:
    plan = planned(model(**ALONE, calibration_arrays=samples(16, constant=True, minimum=0.5, maximum=0.5)))

    for result in plan.results:
        assert "16 different samples" in result.notes[0]
        assert "one value only" in result.notes[1]
        rests = [note for note in result.notes[2:] if "rests on that calibration data" in note]
        assert len(result.notes) == 2 + len(rests)
        assert bool(rests) is (result.recipe == "int8-static")


def test_agreement_is_scored_on_the_report_quarter_when_asked() -> None:
    plain = planned(model(**ALONE, calibration_arrays=samples(16)))
    asked = planned(model(**ALONE, calibration_arrays=samples(16), metric="agreement"))

    assert not any(branch.evaluate for result in plain.results for branch in result.branches)
    scored = {asked.steps[b.evaluate].inputs[1].step for r in asked.results for b in r.branches if b.evaluate}
    assert scored
    assert all(asked.steps[step or ""].options["part"] == "report" for step in scored)


@pytest.mark.parametrize(("metric", "says"), [("top-1", "did you mean top1"), ("zzz", "There is no metric 'zzz'")])
def test_an_unknown_metric_is_refused_with_near_misses(metric: str, says: str) -> None:
    (message,) = refused(model(metric=metric), metrics=(metric,))

    assert says in message
