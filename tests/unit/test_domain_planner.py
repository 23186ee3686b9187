"""Plans: what is refused and how, what is keyed by what, which alternatives are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.domain.binding import inspect_step
from farm.domain.errors import Actor, CorruptModel, EnvironmentMissing
from farm.domain.facts import Format
from farm.domain.plan import Input, Plan, PlannedResult, PlannedStep
from farm.domain.planner import make_plan, request_reasons
from farm.domain.scenario import Measuring, Scenario
from farm.domain.stage import Kind
from farm.domain.wanted import World
from tests.domain_world import (
    CALIBRATION,
    CATALOGUE,
    HOSTS,
    LOCKS,
    PINS,
    SPECS,
    TARGETS,
    WORLD,
    file,
    model,
    planned,
    refuse,
    refused,
    stage_of,
    wanted,
    with_specs,
)

BROKEN = model("broken", facts=None, failures=(CorruptModel("broken.onnx ends after 12 bytes.").failure,))


def keys_by_kind(plan: Plan, kind: str) -> set[str]:
    return {key for key, step in plan.steps.items() if step.kind == kind}


def rows(plan: Plan) -> dict[tuple[str, str, str, str], PlannedResult]:
    """Return the results by what they are called, apart from their places."""
    return {(r.model, r.target, r.target_runtime, r.recipe): replace(r, baseline=None) for r in plan.results}


def test_every_model_runtime_and_recipe_is_a_result_in_the_order_asked_for() -> None:
    plan = planned(model("a"), model("b"), recipes=("int8-static", "float32"))

    assert [(r.model, r.target_runtime, r.recipe) for r in plan.results if r.listed] == [
        (name, runtime, recipe)
        for name in ("a", "b")
        for runtime in ("lite", "ort")
        for recipe in ("float32", "int8-static")
    ]


def test_unknown_names_are_refused_all_at_once_with_near_misses() -> None:
    world = replace(WORLD, hosts=HOSTS[:1])
    wants = {"targets": ("plain-bx", "vnni-box"), "runtimes": ("orrt",), "recipes": ("int8-statc", "float32")}
    messages = refused(world=world, **wants)

    recipe = messages.pop(2)
    assert recipe.startswith("There is no recipe 'int8-statc': did you mean int8-static or ")
    assert messages == [
        "There is no target 'plain-bx': did you mean plain-box or vnni-box?",
        "There is no runtime 'orrt': did you mean ort?",
        "No live host serves target vnni-box; alive are hosts of plain-box.",
    ]


def test_a_name_like_no_other_is_answered_with_all_of_them() -> None:
    assert refused(targets=("zzz",)) == ["There is no target 'zzz': known are plain-box, vnni-box."]


def test_a_target_without_a_runtime_or_a_host_gives_both_reasons() -> None:
    alone = replace(TARGETS["vnni-box"], runtimes={"ort": "ort"})
    world = World(CATALOGUE, {**TARGETS, "vnni-box": alone}, HOSTS[:1])

    messages = refused(world=world, targets=("vnni-box",), runtimes=("lite",))

    assert messages == [
        "Target vnni-box does not run lite; it runs ort.",
        "No live host serves target vnni-box; alive are hosts of plain-box.",
    ]


def test_an_unserved_target_is_for_the_operator_to_mend() -> None:
    (reason,) = request_reasons(wanted(), World(CATALOGUE, TARGETS, ()))

    assert (reason.failure.code, reason.failure.who_must_act) == ("no-live-host", Actor.OPERATOR)
    assert "farm worker --profile plain-box" in (reason.failure.remedy or "")


def test_one_bad_model_among_good_ones_fails_alone() -> None:
    plan = planned(model("good"), BROKEN)

    failed = [r for r in plan.results if r.failure]
    assert {r.model for r in failed} == {"broken"}
    assert len(failed) == 4
    assert all(r.failure and r.failure.code == "corrupt-model" and not r.branches for r in failed)
    assert all(r.listed and r.inspect == "inspect-broken" for r in failed)
    assert all(r.branches for r in plan.results if r.model == "good")


def test_when_every_model_is_bad_the_job_is_refused_with_all_reasons() -> None:
    small = model(
        "small", data=False, calibration=file("c"), calibration_arrays={"image": {"dtype": "int8", "shape": []}}
    )

    reasons = make_plan(wanted(), (BROKEN, small), WORLD)

    assert not isinstance(reasons, Plan)
    assert [(reason.model, reason.failure.code) for reason in reasons] == [
        ("broken", "corrupt-model"),
        ("small", "bad-data"),
    ]


def test_evaluation_without_labels_is_refused_unless_the_metric_needs_none() -> None:
    unlabelled = {"evaluation_arrays": CALIBRATION}

    assert "labels" in refused(model(metric=None, **unlabelled))[0]
    assert planned(model(metric="agreement", **unlabelled)).results[0].branches


def test_a_recipe_without_its_data_fails_that_result_alone() -> None:
    plan = planned(model(data=False))

    assert {(r.recipe, r.failure.code if r.failure else None) for r in plan.results} == {
        ("float32", None),
        ("int8-static", "incompatible"),
    }


def test_nothing_is_queued_when_no_result_that_was_asked_for_can_come() -> None:
    messages = refused(model(data=False), recipes=("int8-static",))

    assert set(messages) == {"Recipe int8-static needs calibration data, and net has none."}


def test_the_float_baseline_is_run_but_not_listed_unless_asked_for() -> None:
    plan = planned(recipes=("int8-static",))

    assert [(r.recipe, r.listed, r.baseline) for r in plan.results] == [
        ("float32", False, None),
        ("int8-static", True, 0),
        ("float32", False, None),
        ("int8-static", True, 2),
    ]


def test_the_float_baseline_is_not_run_for_nothing() -> None:
    plan = planned(model("good"), model("bare", data=False), recipes=("int8-static",))

    assert {r.model for r in plan.results if not r.listed} == {"good"}
    assert all(r.baseline is None or plan.results[r.baseline].model == r.model for r in plan.results)
    assert all("bare" not in step.title for step in plan.steps.values())


def many_ways(number: int) -> World:
    extra = {
        f"convert_{i}": stage_of(f"convert-{i}", Kind.CONVERT, source=Format.ONNX, target=Format.TFLITE, cost=40 + i)
        for i in range(number)
    }
    return with_specs(**extra)


def test_no_more_branches_are_kept_than_are_worth_trying_and_the_others_are_told() -> None:
    (result,) = planned(runtimes=("lite",), recipes=("float32",), world=many_ways(4)).results

    assert [branch.route[0] for branch in result.branches] == [
        "onnx-to-tflite",
        "onnx-to-tflite-slowly",
        "convert-0",
        "convert-1",
    ]
    assert result.refused_routes == ("2 more routes lead there and are not tried after these 4: convert-2; convert-3",)


def test_formats_narrow_what_runtimes_take() -> None:
    plan = planned(formats=("tflite",), recipes=("float32",))

    assert {(r.target_runtime, r.branches[0].format) for r in plan.results} == {("lite", Format.TFLITE)}


def test_a_format_that_nothing_here_takes_is_refused_with_what_is_taken() -> None:
    for formats in (("tflight",), ("tflight", "tflite")):
        assert refused(formats=formats) == ["There is no artifact format 'tflight': did you mean tflite?"]
    assert refused(runtimes=("ort",), formats=("tflite",)) == ["No runtime of plain-box takes tflite: ort takes onnx."]


def test_a_cell_without_any_route_is_left_out_where_its_runtime_was_not_named() -> None:
    world = with_specs(quantize_onnx=None)

    plan = planned(world=world)
    named = planned(world=world, runtimes=("lite", "ort"))

    assert {(r.target_runtime, r.recipe) for r in plan.results} == {
        ("lite", "float32"),
        ("lite", "int8-static"),
        ("ort", "float32"),
    }
    ((runtime, recipe, reason),) = [(one.target_runtime, one.recipe, one.reason) for one in plan.left_out]
    assert (runtime, recipe) == ("ort", "int8-static")
    assert reason == "No route leads from onnx to ort with recipe int8-static for net."
    assert named.left_out == ()
    assert [(r.target_runtime, r.recipe) for r in named.results if r.failure] == [("ort", "int8-static")]


def test_what_was_named_or_is_all_there_is_is_never_left_out() -> None:
    (message,) = refused(runtimes=None, recipes=("float16",), formats=("onnx",))

    assert message == "No route leads from onnx to ort with recipe float16 for net."


def test_every_step_belongs_to_a_branch_and_every_need_is_a_step() -> None:
    plan = planned(model("net", Format.TORCH_EXPORTED_PROGRAM))

    used = {key for result in plan.results for branch in result.branches for key in branch.steps}
    assert used == set(plan.steps)
    for result in plan.results:
        for branch in result.branches:
            seen: set[str] = set()
            for key in branch.steps:
                assert set(plan.steps[key].needs) <= seen, "what a step needs comes before it"
                seen.add(key)
            assert {branch.compare, branch.measure, branch.evaluate} <= seen


def test_steps_of_a_branch_that_can_not_be_are_not_left_behind() -> None:
    plan = planned(world=with_specs(measure_lite=None))

    used = {key for result in plan.results for branch in result.branches for key in branch.steps}
    assert set(plan.steps) == used
    assert {r.target_runtime for r in plan.results if r.failure} == {"lite"}


def test_shared_work_is_planned_once() -> None:
    plan = planned(model("net", Format.TORCH_EXPORTED_PROGRAM), targets=("plain-box", "vnni-box"))

    counts = Counter(step.stage for step in plan.steps.values())
    assert counts["export-onnx"] == 1
    assert counts["onnx-to-tflite"] == 1
    assert counts["quantize-tflite"] == 2, "one per way to its float model"
    assert counts["quantize-onnx"] == 2, "it reads a field in which the targets differ"


def test_keys_are_the_same_in_every_job_but_for_measurements() -> None:
    one, two = planned(job="job-1"), planned(job="job-2", max_runtime_seconds=5.0)

    for plan, other in ((one, two), (two, one)):
        fresh = set(plan.steps) - set(other.steps)
        assert fresh == keys_by_kind(plan, "measure")
    assert {s.reuse_key for s in one.steps.values()} == {s.reuse_key for s in two.steps.values()}
    assert all((s.reuse_key is not None) == (s.kind == "measure") for s in one.steps.values())


def test_a_key_holds_what_its_step_reads_and_nothing_else() -> None:
    before = set(planned(runtimes=("ort",)).steps)

    def changed(world: World) -> set[str]:
        plan = planned(runtimes=("ort",), world=world)
        return {plan.steps[key].stage for key in set(plan.steps) - before}

    def pinned(tool: str) -> World:
        return replace(WORLD, catalogue=replace(CATALOGUE, pins={**PINS, "builder": {**PINS["builder"], tool: "9"}}))

    after_quantizing = {"quantize-onnx", "trace-onnx", "compare-ort", "evaluate-ort", "measure-ort"}
    assert changed(pinned("quantizer")) == after_quantizing
    assert changed(pinned("converter")) == set(), "a tool of another route"
    assert changed(with_specs(quantize_onnx=replace(SPECS["quantize-onnx"], version="2"))) == after_quantizing
    assert changed(with_specs(quantize_onnx=replace(SPECS["quantize-onnx"], cost=99, timeout_s=1.0))) == set()
    cores = replace(TARGETS["plain-box"], fields={"name": "plain-box", "cpu": {"vnni": False, "cores": 64}})
    assert changed(replace(WORLD, targets={**TARGETS, "plain-box": cores})) == set(), "a field that nobody reads"
    vnni = replace(TARGETS["plain-box"], fields={"name": "plain-box", "cpu": {"vnni": True}})
    assert changed(replace(WORLD, targets={**TARGETS, "plain-box": vnni})) == after_quantizing


def test_alternatives_are_kept_best_first_with_keys_of_their_own() -> None:
    (result,) = planned(runtimes=("lite",), recipes=("float32",)).results

    assert [branch.route for branch in result.branches] == [("onnx-to-tflite",), ("onnx-to-tflite-slowly",)]
    first, second = (set(branch.steps) for branch in result.branches)
    assert len(first & second) == 2, "they share the references alone"


def test_a_stage_that_says_no_leaves_the_others_and_its_reason() -> None:
    world = with_specs(onnx_to_tflite=replace(SPECS["onnx-to-tflite"], check=refuse))

    (result,) = planned(runtimes=("lite",), recipes=("float32",), world=world).results

    assert [branch.route for branch in result.branches] == [("onnx-to-tflite-slowly",)]
    assert result.refused_routes == ("onnx-to-tflite: Operator Loop has no counterpart; unroll it.",)


def test_when_every_stage_says_no_the_result_says_why() -> None:
    world = with_specs(onnx_to_tflite=replace(SPECS["onnx-to-tflite"], check=refuse), onnx_to_tflite_slowly=None)

    (message,) = refused(runtimes=("lite",), recipes=("float32",), world=world)

    assert message.startswith("No route leads from onnx to lite with recipe float32 for net")
    assert "Operator Loop has no counterpart" in message


def test_a_host_of_another_lock_can_not_run_a_stage() -> None:
    old = replace(HOSTS[0], environments={**LOCKS, "lite": "0" * 64})

    plan = planned(world=replace(WORLD, hosts=(old,)))

    assert {r.target_runtime for r in plan.results if r.failure} == {"lite"}
    (reason, *_) = {r.failure.message for r in plan.results if r.failure}
    assert "needs environment lite; no live host of plain-box has it" in reason


def test_steps_are_queued_where_they_can_run() -> None:
    plan = planned()

    checks = {check.step for result in plan.results for branch in result.branches for check in branch.checks}
    for step in plan.steps.values():
        on_target = step.kind in (Kind.COMPARE, Kind.EVALUATE, Kind.MEASURE) and step.key not in checks
        assert step.queue == ("target.plain-box" if on_target else "build.x86_64")
        assert (step.target == "plain-box") == on_target
        assert step.environment_digest == LOCKS[step.environment]


def test_a_runtime_limit_only_shortens() -> None:
    short, long = planned(max_runtime_seconds=5.0), planned(max_runtime_seconds=1e9)

    assert {s.max_runtime_seconds for s in short.steps.values()} == {5.0}
    assert {s.max_runtime_seconds for s in long.steps.values()} == {600.0}


def test_an_inspection_is_keyed_by_its_file_alone() -> None:
    spec = stage_of("inspect-onnx", Kind.INSPECT, source=Format.ONNX)

    one = inspect_step(Input("model", artifact=file("a.onnx", "same bytes")), spec, WORLD)
    two = inspect_step(Input("model", artifact=file("b.onnx", "same bytes")), spec, WORLD)

    assert one.key == two.key
    with pytest.raises(EnvironmentMissing, match="no live build host"):
        inspect_step(Input("model", artifact=file("a.onnx")), spec, replace(WORLD, hosts=HOSTS[1:2]))


def untitled(plan: Plan) -> dict[str, PlannedStep]:
    """Return the steps without their titles, which name the first result that asked for them."""
    return {key: replace(step, title="") for key, step in plan.steps.items()}


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_order_of_anything_changes_no_key_and_no_route(data: st.DataObject) -> None:
    models = (model("a"), model("b", Format.TORCH_EXPORTED_PROGRAM), BROKEN)
    targets, recipes = ("plain-box", "vnni-box"), ("float32", "int8-static")
    ordered = planned(*models, targets=targets, runtimes=("ort", "lite"), recipes=recipes)

    shuffled = planned(
        *data.draw(st.permutations(models)),
        world=replace(
            WORLD,
            hosts=tuple(data.draw(st.permutations(HOSTS))),
            catalogue=replace(CATALOGUE, specs=dict(data.draw(st.permutations(list(SPECS.items()))))),
        ),
        targets=tuple(data.draw(st.permutations(targets))),
        runtimes=tuple(data.draw(st.permutations(["ort", "lite"]))),
        recipes=tuple(data.draw(st.permutations(recipes))),
    )

    assert untitled(shuffled) == untitled(ordered)
    assert rows(shuffled) == rows(ordered)
    for plan in (ordered, shuffled):
        for result in plan.results:
            if result.baseline is not None:
                held = plan.results[result.baseline]
                assert (held.model, held.target, held.target_runtime) == (
                    result.model,
                    result.target,
                    result.target_runtime,
                )


def test_what_is_asked_of_measurements_reaches_their_steps_and_no_other() -> None:
    asked = Measuring(Scenario.SERVER, threads=(2, 4, 2), sustained_s=60.0, target_qps=50.0, latency_bound_ms=20.0)
    plan, usual = planned(model("a"), measuring=asked), planned(model("a"))

    told, *_ = (step.options for step in plan.steps.values() if step.kind == Kind.MEASURE)
    assert (told["scenario"], told["threads"], told["threads_sweep"]) == ("server", 2, [2, 4])
    assert (told["sustained_s"], told["target_qps"], told["latency_bound_ms"]) == (60.0, 50.0, 20.0)
    assert {key for key, step in plan.steps.items() if step.kind != Kind.MEASURE} == {
        key for key, step in usual.steps.items() if step.kind != Kind.MEASURE
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Measuring(target_qps=5.0), "target_qps belongs to scenario server; this job asks for single_stream"),
        (Measuring(Scenario.SERVER, samples_per_query=2), "samples_per_query belongs to scenario multi_stream"),
        (Measuring(threads=(0, 2)), "threads is 0; it has to lie between 1 and 1024"),
        (Measuring(sustained_s=7200.0), "sustained_s is 7200; it has to lie between 0 and 1500"),
        (Measuring(Scenario.SERVER, target_qps=-1.0), "target_qps is -1; it has to lie between 0.01"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_read(asked: Measuring, said: str) -> None:
    (reason,) = request_reasons(wanted(measuring=asked), WORLD)

    assert said in reason.failure.message
    assert reason.failure.who_must_act is Actor.SUBMITTER
