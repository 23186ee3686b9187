"""Options that a job sets itself: read by their types, refused with what there is, part of what is built."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm import catalog
from farm.domain.errors import FarmError
from farm.domain.plan import Plan
from farm.domain.recipe import holding
from farm.domain.routes import EDGES
from farm.domain.stage import Options
from farm.domain.tuning import options_of, read_value, told, tuned_by, tuning_errors
from farm.domain.wanted import World
from tests.domain_run import Run
from tests.domain_world import CATALOGUE, SPECS, planned, refused, with_specs
from tests.domain_world import model as submitted

REAL = catalog.world(()).catalogue
PERCENTILE = {"int8-static": {"calibration_method": "Percentile"}}


def errors(**tuned: dict[str, Any]) -> list[str]:
    found: list[FarmError] = tuning_errors({name.replace("_", "-"): of for name, of in tuned.items()}, REAL)
    return [error.message for error in found]


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("int8-static", "calibration_method"),
        ("int8-static", "preset"),
        ("int8-mixed", "keep_float"),
        ("sparse-structured", "share"),
        ("sparse-structured", "budget_minutes"),
        ("compile-tflite-to-edgetpu-tflite", "search_delegate"),
        ("compile-tflite-to-edgetpu-tflite", "num_segments"),
        ("compile-tflite-to-edgetpu-tflite", "intermediate_tensors"),
        ("compile-tflite-to-edgetpu-tflite", "compile_timeout_s"),
        ("compile-tflite-to-edgetpu-tflite", "min_runtime_version"),
    ],
)
def test_what_the_documents_name_can_be_set(section: str, name: str) -> None:
    assert any(name in options_of(spec) for spec in REAL.specs.values() if section in (spec.recipe, spec.name))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (bool, "true", True),
        (int, "3", 3),
        (float, "3", 3.0),
        (float, 0.5, 0.5),
        (str, "3", "3"),
        (str | None, "mixed", "mixed"),
        (int | None, "7", 7),
        (tuple[str, ...], "conv1, conv2", ("conv1", "conv2")),
        (tuple[str, ...], ["conv1"], ("conv1",)),
        (tuple[int, ...], "1,2", (1, 2)),
    ],
)
def test_text_is_read_by_the_type_of_the_option(kind: Any, text: Any, value: Any) -> None:
    assert read_value(kind, text) == value
    assert type(read_value(kind, text)) is type(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(bool, "yes"), (int, "0.5"), (int, True), (float, "fast"), (str, 3), (float, "NaN"), (float, math.inf)],
)
def test_another_type_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot read|is not |no finite"):
        read_value(kind, value)
    assert told(kind) in ("true or false", "a whole number", "a number", "text")


def test_everything_wrong_is_told_at_once_with_what_there_is() -> None:
    said = errors(
        int8_sttic={"preset": "mixed"},
        int8_static={"calibration_methd": "MinMax", "calibration_method": "Medians"},
        sparse_structured={"share": "lots"},
        float32={"share": 1},
    )

    assert len(said) == 5
    for about in (
        "no recipe or stage 'int8-sttic' to set options of: did you mean int8-static",
        "no option int8-static.calibration_methd: did you mean calibration_method?",
        "int8-static.calibration_method is 'Medians'; it has to be one of MinMax, Entropy, Percentile.",
        "sparse-structured.share is 'lots'; it has to be a number.",
        "Recipe float32 has no options",
    ):
        assert any(about in message for message in said), (about, said)


@pytest.mark.parametrize(
    ("name", "who"),
    [("compiler", "this farm's operator"), ("compiler_sha256", "this farm's operator"), ("recipe", "the farm")],
)
def test_what_is_the_operator_s_is_refused(name: str, who: str) -> None:
    (said,) = errors(compile_tflite_to_edgetpu_tflite={name: "/bin/sh"})

    assert said == f"Option compile-tflite-to-edgetpu-tflite.{name} is set by {who}, not by a job."


@pytest.mark.parametrize("name", ["input_specs", "output_specs", "ranges", "reports", "enough_db"])
def test_what_follows_from_the_job_is_not_set_beside_it(name: str) -> None:
    assert all(name not in options_of(spec) for spec in REAL.specs.values())
    assert errors(int8_static={name: "1"})


def test_what_is_told_of_a_stage_wins_over_what_is_told_of_its_recipe() -> None:
    spec = REAL.specs["quantize-onnx-int8-static"]
    tuned = PERCENTILE | {spec.name: {"calibration_method": "Entropy"}}

    assert tuned_by(spec, PERCENTILE) == {"calibration_method": "Percentile"}
    assert tuned_by(spec, tuned) == {"calibration_method": "Entropy"}
    assert tuned_by(REAL.specs["measure-onnxruntime"], {"measure-onnxruntime": {"threads": 4}}) == {}


def quantizing(plan: Plan) -> dict[str, Any]:
    (step,) = (step for step in plan.steps.values() if step.stage == "quantize-onnx")
    return {"key": step.key, "samples": step.options["samples"]}


def test_an_option_is_part_of_the_step_s_key_and_of_no_other_step_s() -> None:
    usual, tuned = (planned(runtimes=("ort",), options=options) for options in ({}, {"int8-static": {"samples": "4"}}))

    assert (quantizing(usual)["samples"], quantizing(tuned)["samples"]) == (8, 4)
    assert quantizing(usual)["key"] != quantizing(tuned)["key"]
    assert {s.key for s in usual.steps.values() if s.stage == "reference-onnx"} == {
        s.key for s in tuned.steps.values() if s.stage == "reference-onnx"
    }


def test_a_job_with_options_that_are_not_there_is_refused() -> None:
    (said,) = refused(submitted(), options={"int8-static": {"sampels": 4}})

    assert "no option int8-static.sampels: did you mean samples" in said
    assert tuning_errors({"int8-static": {"samples": 4}}, CATALOGUE) == []


def edged() -> World:
    """Add the stage that changes edges, and a route on to a format that does not keep them."""
    return with_specs(optimize_onnx_edges=REAL.specs[EDGES])


def test_changed_edges_come_behind_the_last_onnx_file_and_in_float32_too() -> None:
    plan = planned(world=edged(), runtimes=("ort",), options={EDGES: {"channel_last_inputs": "image"}})
    routes = {result.recipe: result.branches[0].route for result in plan.results}

    assert routes == {"float32": (EDGES,), "int8-static": ("quantize-onnx", EDGES)}
    assert {tuple(step.options["channel_last_inputs"]) for step in plan.steps.values() if step.stage == EDGES} == {
        ("image",)
    }


def test_nobody_who_does_not_ask_has_other_edges() -> None:
    assert all(EDGES not in result.branches[0].route for result in planned(world=edged(), runtimes=("ort",)).results)


def test_files_that_do_not_keep_their_edges_are_refused_where_others_are_asked_for() -> None:
    (said, *_) = refused(world=edged(), runtimes=("lite",), options={EDGES: {"narrow_64_bit": True}})

    assert "inputs and outputs can be changed of ONNX files alone" in said


def test_edges_of_tensors_that_are_not_there_are_refused() -> None:
    asked = {EDGES: {"channel_last_inputs": "picture", "channel_last_outputs": "scores"}}
    (said, *_) = refused(world=edged(), runtimes=("ort",), options=asked)

    assert "no input 'picture' to put channels last in; there are image." in said
    assert "'scores' has 2 axes" in said


@pytest.mark.parametrize(
    ("weights", "activations", "found"),
    [("float32", None, ["float32"]), ("float16", None, ["float16"]), ("int8", "int16", ["int16x8"])],
)
def test_types_name_recipes(weights: str | None, activations: str | None, found: list[str]) -> None:
    assert holding(weights, activations) == found


def test_where_a_stage_has_no_such_option_the_result_says_so() -> None:
    world = with_specs(quantize_tflite=replace(SPECS["quantize-tflite"], options=Options))
    plan = planned(world=world, options={"int8-static": {"samples": 4}})
    notes = {result.target_runtime: result.notes for result in plan.results if result.recipe == "int8-static"}

    assert notes == {
        "ort": (),
        "lite": ("Option int8-static.samples had no effect: quantize-tflite has none of that name.",),
    }


def test_the_options_of_the_documents_examples_are_there() -> None:
    text = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    named = [re.fullmatch(r"(\S+)\.(\w+)=(\S+)", one) for one in re.findall(r"--option (\S+?)[`\s]", text)]

    assert len(named) >= 6
    for one in named:
        assert one is not None
        assert tuning_errors({one[1]: {one[2]: one[3]}}, REAL) == []


def test_the_report_lists_an_option_with_the_step_it_was_told_to() -> None:
    run = Run(planned(runtimes=("ort",), options={"int8-static": {"samples": "4"}})).finish()
    (step,) = (one for one in run.body("ort", "int8-static")["steps"] if one["stage"] == "quantize-onnx")

    assert step["arguments"]["samples"] == 4
