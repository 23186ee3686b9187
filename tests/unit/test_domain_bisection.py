"""Numerics stage by stage: the first stage below its line is named, and so is a host that disagrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.bisection import DISAGREEMENT_DB, OTHER_HOST, Figure, LayerFigures, bisect, disagreement
from farm.domain.errors import ArtifactBroken, FarmError, HostLost, ToolCrashed, ToolTimedOut
from farm.domain.facts import Format
from farm.domain.plan import Plan, PlannedStep
from tests.domain_run import LAYERS, Run
from tests.domain_world import CATALOGUE, HOSTS, LOCKS, WORLD, model, planned, with_specs

TORCH = Format.TORCH_EXPORTED_PROGRAM


def figure(sqnr_db: float | None, stage: str = "a-to-b", limit_db: float = 60.0, **changes: Any) -> Figure:
    found = {"sqnr_db": sqnr_db, "worst_output": f"out of {stage}"}
    return replace(Figure(stage, "onnx", "ort", "build", "one", limit_db, found), **changes)


def on_target(sqnr_db: float | None, limit_db: float = 60.0, **changes: Any) -> Figure:
    return figure(sqnr_db, "b-to-c", limit_db, where="target", host="two", **changes)


def test_the_first_stage_below_its_own_line_is_named_with_its_worst_output() -> None:
    told = bisect([figure(90.0), figure(25.0, "q", 20.0), figure(12.0, "c", 20.0), on_target(12.0, 20.0)], "box")

    assert (told["first_bad_stage"], told["first_bad_tensor"]) == ("c", "out of c")
    assert [entry["sqnr_db"] for entry in told["by_stage"]] == [90.0, 25.0, 12.0, 12.0]
    assert told["disagreement"] is None


def test_a_stage_that_was_not_checked_is_passed_over_and_says_why() -> None:
    unseen = figure(None, "a-to-b", numerics={}, not_checked="not checked: nobody has it.")

    told = bisect([unseen, figure(10.0, "b-to-c"), on_target(10.0)], "box")

    assert told["first_bad_stage"] == "b-to-c"
    assert told["by_stage"][0]["not_checked"] == "not checked: nobody has it."
    assert "not_checked" not in told["by_stage"][1]


def test_a_file_that_is_worse_on_the_target_alone_is_a_disagreement_of_hosts() -> None:
    told = bisect([figure(120.0), figure(31.0, "b-to-c", 20.0), on_target(7.5, 20.0, runtime="ort")], "box")

    assert told["first_bad_stage"] == "compare on box"
    assert told["first_bad_tensor"] == "out of b-to-c"
    for words in ("build host one under ort", "target's host two under ort", "7.5 dB", "31.0 dB", "20 dB are needed"):
        assert words in told["disagreement"]


def test_a_file_in_integers_may_differ_by_its_kernels_and_condemns_no_host() -> None:
    there = on_target(13.0, 20.0, in_integers=True)

    said = disagreement(figure(21.0, "b-to-c", 20.0), there) or ""

    assert "or the integer kernels for its processor saturate" in said
    assert "The file is sound" not in said
    assert "The file is sound" in (disagreement(figure(21.0, limit_db=20.0), replace(there, in_integers=False)) or "")


def test_what_fell_on_an_unchecked_build_host_is_the_stages_fault() -> None:
    unseen = figure(None, "b-to-c", numerics={}, not_checked="not checked.")

    assert bisect([figure(120.0), unseen, on_target(9.0)], "box")["first_bad_stage"] == "b-to-c"


@given(st.floats(-20, 200), st.none() | st.floats(-20, 200), st.sampled_from((20.0, 40.0, 60.0)))
def test_hosts_disagree_only_about_a_sound_file_and_by_a_margin(
    built: float, there: float | None, limit_db: float
) -> None:
    said = disagreement(figure(built, "b-to-c", limit_db), on_target(there, limit_db))

    gap = float("inf") if there is None else built - there
    below = there is None or there < limit_db
    assert (said is not None) == (built >= limit_db and below and gap >= DISAGREEMENT_DB)


@given(st.lists(st.none() | st.floats(-20, 200), min_size=1, max_size=6), st.none() | st.floats(-20, 200))
def test_whatever_is_found_the_first_bad_stage_is_none_exactly_when_all_is_fine(
    stages: list[float | None], there: float | None
) -> None:
    figures = [figure(value, f"stage-{i}") for i, value in enumerate(stages)]
    figures.append(replace(on_target(there), stage=figures[-1].stage))

    told = bisect(figures, "box")

    bad = [i for i, value in enumerate([*stages, there]) if value is None or value < 60.0]
    assert (told["first_bad_stage"] is None) == (not bad)
    assert told["disagreement"] is None or told["first_bad_stage"] in {"compare on box", *(f.stage for f in figures)}
    if bad and bad[0] < len(stages):
        assert told["first_bad_stage"] == f"stage-{bad[0]}"


def checks_of(plan: Plan, runtime: str = "lite", recipe: str = "int8-static") -> list[tuple[str, str | None, str]]:
    (row,) = (r for r in plan.results if (r.target_runtime, r.recipe) == (runtime, recipe))
    return [(check.stage, check.runtime, check.recipe) for check in row.branches[0].checks]


def test_every_stage_of_a_route_is_checked_under_a_runtime_that_opens_its_output() -> None:
    assert checks_of(planned(model("net", TORCH))) == [
        ("export-onnx", "ort", "float32"),
        ("onnx-to-tflite", "lite", "float32"),
        ("quantize-tflite", "lite", "int8-static"),
    ]


def test_a_check_is_one_step_for_all_targets_and_recipes_that_share_the_stage() -> None:
    plan = planned(model("net", TORCH), targets=("plain-box", "vnni-box"))

    shared = {
        check.step
        for result in plan.results
        for branch in result.branches
        for check in branch.checks
        if check.stage == "export-onnx"
    }
    assert len(shared) == 1
    (key,) = shared
    assert key is not None
    step = plan.steps[key]
    assert (step.queue, step.profile, step.target) == ("build.x86_64", {}, None)


def test_without_a_builder_that_has_the_runtime_the_check_says_so_and_nothing_fails() -> None:
    bare = {name: lock for name, lock in LOCKS.items() if name != "ort"}
    hosts = (replace(HOSTS[0], environments=bare), replace(HOSTS[1], environments=LOCKS))

    plan = planned(model("net", TORCH), targets=("vnni-box",), runtimes=("lite",), world=replace(WORLD, hosts=hosts))

    (first, *_) = plan.results[0].branches[0].checks
    assert first.step is None
    assert first.not_checked is not None
    assert "environment ort; no live build host has it" in first.not_checked
    body = Run(plan).finish().body("lite", "float32")
    assert body["verdict"] == "ok"
    assert body["numerics"]["by_stage"][0]["not_checked"] == first.not_checked


def test_a_format_that_no_runtime_opens_is_said_to_be_unchecked() -> None:
    blind = replace(WORLD, catalogue=replace(CATALOGUE, accepts={"lite": (Format.TFLITE,)}))

    plan = planned(model("net", TORCH), runtimes=("lite",), world=blind)

    assert plan.results[0].branches[0].checks[0].not_checked == ("not checked: no deployable runtime here opens onnx.")


def test_on_a_farm_of_one_host_the_comparison_on_the_target_is_the_check_of_the_last_stage() -> None:
    alone = replace(WORLD, hosts=HOSTS[:1])
    (branch, *_) = (
        planned(model("net", TORCH), runtimes=("lite",), recipes=("float32",), world=alone).results[0].branches
    )

    exported, converted = branch.checks
    assert exported.step != branch.compare
    assert (converted.stage, converted.runtime, converted.step) == ("onnx-to-tflite", "lite", branch.compare)
    assert branch.compare not in branch.looks
    tested = planned(model("net", TORCH), runtimes=("lite",), world=alone, tests_host=True).results[0].branches[0]
    assert tested.checks[-1].step != tested.compare


def test_on_a_farm_of_one_host_float32s_comparison_is_the_check_of_the_stages_before_int8() -> None:
    alone = replace(WORLD, hosts=HOSTS[:1])

    results = planned(model("net", TORCH), runtimes=("lite",), recipes=("float32", "int8-static"), world=alone).results

    plain, quantized = (result.branches[0] for result in results)
    exported, converted, last = quantized.checks
    assert converted.step == plain.compare
    assert (exported.step, last.step) == (plain.checks[0].step, quantized.compare)
    assert plain.compare in quantized.looks


def test_a_farm_of_one_host_names_the_stage_that_left_the_source() -> None:
    alone = replace(WORLD, hosts=HOSTS[:1])
    run = lite_run(lambda run, step: run.succeed(step, sqnr_db=12.0), world=alone)

    assert "leaves its source at stage onnx-to-tflite: an SQNR of 12.0 dB" in run.falls[0][1].message
    body = run.body("lite", "float32")
    assert [entry["where"] for entry in body["numerics"]["by_stage"]] == ["build", "build", "target"]
    assert body["numerics"]["disagreement"] is None


def ending(stage: str, end: Callable[[Run, PlannedStep], None]) -> Callable[[Run, PlannedStep], None]:
    """Let the check of one stage end by `end`, and all else well."""

    def finish(run: Run, step: PlannedStep) -> None:
        checks = {c.step for r in run.plan.results for branch in r.branches for c in branch.checks if c.stage == stage}
        if step.key in checks:
            end(run, step)
        else:
            run.succeed(step)

    return finish


def lite_run(end: Callable[[Run, PlannedStep], None], stage: str = "onnx-to-tflite", **wants: Any) -> Run:
    return Run(planned(model("net", TORCH), runtimes=("lite",), **wants)).finish(ending(stage, end))


def test_a_float_stage_that_is_not_the_source_loses_the_branch_and_is_named() -> None:
    run = lite_run(lambda run, step: run.succeed(step, sqnr_db=12.0))

    assert {index for index, _ in run.falls} == {0, 1}
    assert "leaves its source at stage onnx-to-tflite: an SQNR of 12.0 dB" in run.falls[0][1].message
    body = run.body("lite", "float32")
    assert body["routes"][-1] == ["export-onnx", "onnx-to-tflite-slowly"]
    assert body["route_failures"][0] == run.falls[0][1].message
    assert body["route_failures"][1:] == [None]


def test_a_float_stage_without_another_route_fails_with_its_figures() -> None:
    run = lite_run(lambda run, step: run.succeed(step, sqnr_db=12.0), "export-onnx", recipes=("float32",))

    body = run.body("lite", "float32")
    assert (body["failure_type"], body["evidence"]["stage"]) == ("numerics-broken", "export-onnx")
    assert body["numerics"]["first_bad_stage"] == "export-onnx"
    assert body["numerics"]["by_stage"][0]["sqnr_db"] == 12.0


def test_a_quantized_stage_is_degraded_and_not_lost() -> None:
    run = lite_run(lambda run, step: run.succeed(step, sqnr_db=12.0), "quantize-tflite")

    assert run.falls == []
    assert run.body("lite", "int8-static")["numerics"]["first_bad_stage"] == "quantize-tflite"


@pytest.mark.parametrize("error", [ArtifactBroken("It does not load."), ToolCrashed("It crashed.")])
def test_a_file_that_does_not_open_on_the_build_host_loses_its_branch(error: FarmError) -> None:
    run = lite_run(lambda run, step: run.fail(step, error.failure))

    assert run.falls[0][1].message == f"net after onnx-to-tflite, opened under lite: {error.message}"


@pytest.mark.parametrize("error", [HostLost("The lease ran out."), ToolTimedOut("It took too long.")])
def test_a_check_that_could_not_look_loses_nothing(error: FarmError) -> None:
    run = lite_run(lambda run, step: run.fail(step, error.failure))

    assert run.falls == []
    entry = run.body("lite", "float32")["numerics"]["by_stage"][1]
    assert entry["not_checked"] == f"not compared: {error.message}"


def test_a_lost_result_waits_for_the_check_that_says_where() -> None:
    """Given the target's comparison ends first, the stage is named all the same."""
    run = Run(planned(model(), runtimes=("ort",), recipes=("float32",)))
    for step in [step for step in run.ready if step.kind == "reference"]:
        run.succeed(step)
    (branch,) = run.plan.results[0].branches
    run.succeed(run.plan.steps[branch.compare], sqnr_db=5.0)
    assert run.concluded == [], "its check is under way"

    (check,) = branch.checks
    run.succeed(run.plan.steps[check.step or ""])

    body = run.body("ort", "float32")
    assert body["numerics"]["first_bad_stage"] == "compare on plain-box"
    assert "disagree" in body["numerics"]["disagreement"]
    assert (body["who_must_act"], body["remedy"]) == ("operator", OTHER_HOST)


def test_the_first_layer_under_the_line_is_named_where_its_stage_is_the_first_bad_one() -> None:
    figures, layers = [figure(90.0), figure(9.0, "quantize", 20.0)], LayerFigures("quantize", LAYERS)

    assert bisect(figures, "box", layers)["first_bad_tensor"] == "conv2"
    assert bisect(figures, "box", replace(layers, stage="another"))["first_bad_tensor"] == "out of quantize"
    assert bisect(figures, "box", LayerFigures("quantize", note="none."))["first_bad_tensor"] == "out of quantize"


def test_layers_say_nothing_of_hosts_that_disagree() -> None:
    figures = [figure(31.0, "quantize", 20.0), replace(on_target(7.5, 20.0), stage="quantize")]

    told = bisect(figures, "box", LayerFigures("quantize", LAYERS))

    assert (told["first_bad_stage"], told["first_bad_tensor"]) == ("compare on box", "out of b-to-c")
    assert told["per_layer"] == LAYERS


def ort_run(end: Callable[[Run, PlannedStep], None]) -> Run:
    return Run(planned(model(), runtimes=("ort",))).finish(end)


def test_a_quantized_models_layers_are_compared_with_those_of_the_float_one_it_was_made_of() -> None:
    plan = planned(model("net", TORCH), runtimes=("ort",))
    (float_row, quantized) = (result.branches[0] for result in plan.results)

    assert float_row.layers is None
    assert quantized.layers is not None
    assert quantized.layers.step in quantized.steps
    step = plan.steps[quantized.layers.step or ""]
    roles = {given.role: plan.steps[given.step or ""].stage for given in step.inputs}
    assert roles == {"model": "quantize-onnx", "float": "export-onnx", "samples": "reference-torch"}
    assert (step.queue, step.target, step.profile) == ("build.x86_64", None, {})


def test_a_degraded_result_names_its_first_bad_layer() -> None:
    def poor(run: Run, step: PlannedStep) -> None:
        run.succeed(step, sqnr_db=14.0 if "after quantize-onnx" in step.title and step.kind == "compare" else 120.0)

    numerics = ort_run(poor).body("ort", "int8-static")["numerics"]

    assert numerics["per_layer"] == LAYERS
    assert (numerics["first_bad_stage"], numerics["first_bad_tensor"]) == ("quantize-onnx", "conv2")


@pytest.mark.parametrize("error", [ArtifactBroken("They can't be read."), ToolCrashed("It crashed.")])
def test_layers_that_could_not_be_compared_lose_nothing_and_say_why(error: FarmError) -> None:
    run = ort_run(lambda run, step: run.fail(step, error.failure) if step.kind == "trace" else run.succeed(step))

    body = run.body("ort", "int8-static")
    assert body["verdict"] == "ok"
    assert (body["numerics"]["per_layer"], body["numerics"]["per_layer_note"]) == (None, error.message)


def test_a_format_whose_layers_nothing_reads_says_so() -> None:
    body = Run(planned(model("net", TORCH), runtimes=("lite",))).finish().body("lite", "int8-static")

    assert body["numerics"]["per_layer"] is None
    assert body["numerics"]["per_layer_note"] == "no stage reads the inner tensors of tflite."
    assert "per_layer" not in Run(planned(model(), recipes=("float32",))).finish().body("ort", "float32")["numerics"]


def test_a_stage_that_quantizes_while_it_converts_has_no_float_file_beside_it() -> None:
    world = with_specs(quantize_onnx=replace(CATALOGUE.specs["quantize-onnx"], source=TORCH, target=Format.ONNX))
    plan = planned(model("net", TORCH), runtimes=("ort",), recipes=("int8-static",), world=world)

    (layers,) = (branch.layers for result in plan.results for branch in result.branches if branch.layers)
    assert layers.step is None
    assert layers.not_compared == (
        "quantize-onnx quantizes while it converts, so no float onnx file stands beside its own."
    )
