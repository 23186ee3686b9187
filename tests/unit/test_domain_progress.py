"""What is done next: every result ends once, whatever its steps do; the next route only where it may help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.domain.decision import Decision, decide
from farm.domain.errors import (
    Actor,
    ArtifactBroken,
    ConversionFailed,
    CorruptModel,
    CustomOperator,
    EnvironmentMissing,
    Failure,
    FarmBug,
    FarmError,
    HostLost,
    JobCancelled,
    ToolCrashed,
    ToolTimedOut,
)
from farm.domain.facts import Format
from farm.domain.plan import Plan, PlannedStep
from farm.domain.progress import StepPhase, may_fall_back
from farm.domain.wanted import World
from farm.report.schema import schema
from tests.domain_run import Run, has_ended
from tests.domain_world import minimizing, model, planned

FAILURES = (
    *(ConversionFailed, ToolCrashed, ArtifactBroken, FarmBug, CorruptModel, CustomOperator, HostLost),
    *(EnvironmentMissing, JobCancelled),
)
CONVERSION = ConversionFailed("onnx2tf knows no Loop.").failure


def fail_stage(stage: str, error: FarmError) -> Callable[[Run, PlannedStep], None]:
    """Let the steps of one stage fail, and all others succeed."""

    def end(run: Run, step: PlannedStep) -> None:
        if step.stage == stage:
            run.fail(step, error.failure)
        else:
            run.succeed(step)

    return end


plans = st.sampled_from(
    (
        planned(),
        planned(model("a"), model("b", Format.TORCH_EXPORTED_PROGRAM), recipes=("int8-static",)),
        planned(model(data=False), recipes=("float32", "int8-static")),
        planned(model("net", Format.TORCH_EXPORTED_PROGRAM), targets=("plain-box", "vnni-box")),
        planned(model("net", Format.TORCH_EXPORTED_PROGRAM), world=minimizing()),
    )
)


@settings(max_examples=100, deadline=None)
@given(plans, st.data())
def test_whatever_steps_do_every_result_ends_once_and_says_how(plan: Plan, data: st.DataObject) -> None:
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/result", "$defs": schema()["$defs"]})
    run = Run(plan)
    while run.ready:
        step = data.draw(st.sampled_from(run.ready), label="step")
        ends = data.draw(st.sampled_from(("well", "well", "silently", "badly")), label="ends")
        if ends == "well":
            sqnr_db = data.draw(st.sampled_from((90.0, 12.0, None)), label="sqnr_db")
            run.succeed(step, sqnr_db=sqnr_db, valid=data.draw(st.booleans(), label="valid"))
        elif ends == "silently":
            run.fail(step, None, StepPhase.CANCELLED)
        else:
            run.fail(step, data.draw(st.sampled_from(FAILURES), label="failure")("It failed.").failure)

    assert sorted(run.concluded) == list(range(len(plan.results)))
    assert decide(plan, run.progress, run.states) == Decision()
    for index, failure in run.falls:
        assert may_fall_back(failure), index
    for index, result in enumerate(plan.results):
        body = run.bodies[index]
        assert list(validator.iter_errors(body)) == []
        assert "waiting" not in {step["state"] for step in body["steps"]}
        assert (body["state"] == "failed") == (body["verdict"] == "failed")
        if body["state"] == "succeeded":
            chosen = result.branches[run.progress[index].branch]
            checks = {check.step for check in chosen.checks} | {chosen.layers.step if chosen.layers else None}
            for key in chosen.steps:
                assert run.states[key].phase is StepPhase.SUCCEEDED or (key in checks and has_ended(run.states[key]))
            assert len(body["numerics"]["by_stage"]) == len(chosen.checks) + 1
        else:
            assert body["who_must_act"] in set(Actor)
            assert body["message"].endswith(".")


def test_when_all_goes_well_everything_runs_once_and_the_baseline_ends_first() -> None:
    plan = planned(recipes=("int8-static",))

    run = Run(plan).finish()

    used = {key for r in plan.results for key in r.branches[0].steps}
    assert set(run.states) == used
    assert all(state.phase is StepPhase.SUCCEEDED for state in run.states.values())
    assert run.falls == []
    for index, result in enumerate(plan.results):
        if result.baseline is not None:
            assert run.concluded.index(result.baseline) < run.concluded.index(index)


def test_only_steps_whose_needs_are_there_are_dispatched() -> None:
    run = Run(planned(runtimes=("lite",), recipes=("float32",)))

    assert {step.stage for step in run.ready} == {"onnx-to-tflite", "reference-onnx"}
    run.succeed(next(step for step in run.ready if step.stage == "onnx-to-tflite"))
    assert {step.stage for step in run.ready} == {"reference-onnx"}


def test_nothing_is_measured_before_it_was_compared() -> None:
    run = Run(planned(runtimes=("ort",), recipes=("float32",)))

    seen: list[set[str]] = []
    while run.ready:
        seen.append({step.kind for step in run.ready})
        for step in list(run.ready):
            run.succeed(step)

    assert seen == [{"reference"}, {"compare"}, {"evaluate", "measure"}]


@pytest.mark.parametrize("kind", FAILURES)
def test_another_route_is_tried_only_when_a_tool_or_we_failed(kind: type[FarmError]) -> None:
    run = Run(planned(runtimes=("lite",), recipes=("float32",)))

    run.finish(fail_stage("onnx-to-tflite", kind("It failed.")))

    (body,) = run.bodies.values()
    helps = kind.who_must_act in (Actor.TOOLCHAIN, Actor.US)
    assert may_fall_back(kind("x").failure) == helps
    assert body["state"] == ("succeeded" if helps else "failed")
    assert body["routes"] == [["onnx-to-tflite"], ["onnx-to-tflite-slowly"]][: 2 if helps else 1]
    if not helps:
        assert (body["failure_type"], body["who_must_act"]) == (kind.code, kind.who_must_act)


COMPLAINED = {"tool": "onnx2tf", "version": "2.6.9"}
"""The evidence of what was raised while a tool ran."""


@pytest.mark.parametrize("kind", FAILURES)
def test_what_a_tool_complains_of_is_one_tools_opinion_whoever_must_act(kind: type[FarmError]) -> None:
    """Given a known message that asks the submitter or the operator to act; then another tool may still do the work."""
    error = kind("It failed.", **COMPLAINED)
    run = shrinking_run().finish(fail_stage("onnx-to-tflite", error))

    body = run.body("lite", "float32")
    helps = kind.who_must_act is not Actor.HOST
    assert body["state"] == ("succeeded" if helps else "failed")
    assert ("reproduction" in body) == helps


def test_a_tool_without_a_version_is_no_complaint() -> None:
    """Given a runtime on a target, which names no version; then the submitter acts, and nothing else is tried."""
    run = shrinking_run().finish(fail_stage("onnx-to-tflite", CorruptModel("It is broken.", tool="onnx")))

    assert run.body("lite", "float32")["failure_type"] == "corrupt-model"


def test_what_depends_on_a_failed_step_is_skipped() -> None:
    run = Run(planned(model("net", Format.TORCH_EXPORTED_PROGRAM), runtimes=("lite",), recipes=("float32",)))

    run.finish(fail_stage("export-onnx", CorruptModel("net.pt2 has no program.")))

    phases = {state.stage: state.phase for state in run.states.values()}
    assert phases["export-onnx"] is StepPhase.FAILED
    for stage in ("onnx-to-tflite", "compare-lite", "measure-lite", "evaluate-lite"):
        assert phases[stage] is StepPhase.SKIPPED
    assert all(has_ended(state) for state in run.states.values())


def test_when_every_route_failed_the_best_ones_failure_is_shown() -> None:
    def end(run: Run, step: PlannedStep) -> None:
        if step.stage.startswith("onnx-to-tflite"):
            run.fail(step, replace(CONVERSION, message=f"{step.stage} knows no Loop."))
        else:
            run.succeed(step)

    run = Run(planned(runtimes=("lite",), recipes=("float32",))).finish(end)

    body = run.body("lite", "float32")
    assert body["message"] == "onnx-to-tflite knows no Loop."
    assert {step["stage"] for step in body["steps"] if step["state"] == "failed"} == {
        "onnx-to-tflite",
        "onnx-to-tflite-slowly",
    }


def test_a_float_result_that_is_not_the_source_loses_its_route_and_so_does_its_int8_kin() -> None:
    def end(run: Run, step: PlannedStep) -> None:
        first = next(r for r in run.plan.results if r.recipe == "float32").branches[0]
        run.succeed(step, sqnr_db=20.0 if step.key == first.compare else 90.0)

    run = Run(planned(runtimes=("lite",))).finish(end)

    assert {index for index, _ in run.falls} == {0, 1}
    assert {failure.code for _, failure in run.falls} == {"numerics-broken"}
    assert run.body("lite", "int8-static")["routes"][-1] == ["onnx-to-tflite-slowly", "quantize-tflite"]
    assert {body["state"] for body in run.bodies.values()} == {"succeeded"}


def test_a_float_result_that_could_not_be_measured_does_not_take_its_int8_kin_along() -> None:
    def end(run: Run, step: PlannedStep) -> None:
        float_measure = run.plan.results[0].branches[0].measure
        if step.key == float_measure:
            run.fail(step, HostLost("The lease ran out.").failure)
        else:
            run.succeed(step)

    run = Run(planned(runtimes=("ort",))).finish(end)

    assert run.body("ort", "float32")["failure_type"] == "host-lost"
    int8 = run.body("ort", "int8-static")
    assert int8["state"] == "succeeded"
    assert int8["execution_summary"]["versus_float"] is None


@pytest.mark.parametrize("phase", [StepPhase.SKIPPED, StepPhase.CANCELLED])
def test_a_step_that_ended_for_another_jobs_sake_does_not_hang_this_one(phase: StepPhase) -> None:
    run = Run(planned(runtimes=("ort",), recipes=("float32",)))

    run.fail(next(step for step in run.ready if step.stage == "reference-onnx"), None, phase)

    (body,) = run.bodies.values()
    assert (body["failure_type"], body["who_must_act"]) == ("farm-bug", "us")
    assert "farm retry" in body["remedy"]


def test_a_result_without_a_branch_ends_at_once() -> None:
    run = Run(planned(model(data=False)))

    failed = [index for index, result in enumerate(run.plan.results) if result.failure]
    assert run.concluded == failed
    run.finish()
    assert all(run.bodies[index]["failure_type"] == "incompatible" for index in failed)


def shrinking_run(*, world: World | None = None, **wants: Any) -> Run:
    return Run(planned(runtimes=("lite",), recipes=("float32",), world=world or minimizing(), **wants))


def test_a_tools_failure_is_shrunk_while_the_next_route_is_tried() -> None:
    run = shrinking_run()

    run.fail(next(step for step in run.ready if step.stage == "onnx-to-tflite"), CONVERSION)

    assert {step.stage for step in run.ready} >= {"minimize-onnx", "onnx-to-tflite-slowly"}
    (shrinking,) = (step for step in run.ready if step.kind == "minimize")
    (failed,) = (state for state in run.states.values() if state.phase is StepPhase.FAILED)
    assert shrinking.inputs == run.plan.steps[failed.key].inputs
    assert (shrinking.options["stage"], shrinking.environment) == ("onnx-to-tflite", "builder")
    assert shrinking.options["options"] == run.plan.steps[failed.key].options
    while others := [step for step in run.ready if step.kind != "minimize"]:
        run.succeed(others[0])
    assert run.concluded == [], "it waits for its reproduction"

    run.succeed(shrinking)

    body = run.body("lite", "float32")
    assert body["verdict"] == "ok"
    assert (body["reproduction"]["file"], body["reproduction"]["nodes"]) == ("repro.zip", 2)
    assert body["reproduction"]["stage"] == "onnx-to-tflite"
    assert body["steps"][-1]["stage"] == "minimize-onnx"


def test_a_reproduction_that_fails_costs_the_result_nothing() -> None:
    run = shrinking_run()

    def end(run: Run, step: PlannedStep) -> None:
        if step.stage == "onnx-to-tflite":
            run.fail(step, CONVERSION)
        elif step.kind == "minimize":
            run.fail(step, HostLost("The lease ran out.").failure)
        else:
            run.succeed(step)

    body = run.finish(end).body("lite", "float32")

    assert body["verdict"] == "ok"
    assert (body["reproduction"]["file"], body["reproduction"]["reason"]) == (None, "The lease ran out.")


@pytest.mark.parametrize(
    ("failed", "repeated", "reason"),
    [
        (CONVERSION, "conversion-failed", None),
        (ToolTimedOut("It did not end.").failure, "tool-timed-out", None),
        (CONVERSION, "tool-timed-out", "did not come that far within 48.0 s"),
        (CONVERSION, "tool-out-of-memory", "repeated for the search with tool-out-of-memory"),
    ],
)
def test_a_reproduction_of_another_failure_is_none(failed: Failure, repeated: str, reason: str | None) -> None:
    """Given a stage that fails after minutes; then what is stopped after seconds is not published as its failure."""
    run = shrinking_run()

    def end(run: Run, step: PlannedStep) -> None:
        if step.stage == "onnx-to-tflite":
            run.fail(step, failed)
            return
        run.succeed(step)
        if step.kind == "minimize":
            told = {"code": repeated, "limit_s": 48.0}
            run.states[step.key] = replace(run.states[step.key], facts={**run.states[step.key].facts, **told})

    told = run.finish(end).body("lite", "float32")["reproduction"]

    assert told["file"] == ("repro.zip" if reason is None else None)
    assert (reason or "") in (told.get("reason") or "")
    assert ("sha256" in told) == (reason is None)


@pytest.mark.parametrize("error", [CorruptModel("It is broken."), HostLost("It is gone."), FarmBug("We broke it.")])
def test_only_a_tools_failure_is_shrunk(error: FarmError) -> None:
    run = shrinking_run().finish(fail_stage("onnx-to-tflite", error))

    assert "minimize" not in {step.kind for step in (run.plan.steps[key] for key in run.states)}
    assert "reproduction" not in run.body("lite", "float32")


def test_one_failure_of_a_result_is_shrunk_and_equal_ones_once() -> None:
    """Given every converter fails, for two recipes: the first failure of each result is one and the same."""
    run = Run(planned(runtimes=("lite",), world=minimizing()))

    def end(run: Run, step: PlannedStep) -> None:
        if step.stage.startswith("onnx-to-tflite"):
            run.fail(step, CONVERSION)
        else:
            run.succeed(step)

    run.finish(end)

    shrunk = [run.plan.steps[key] for key in run.states if run.plan.steps[key].kind == "minimize"]
    assert [step.options["stage"] for step in shrunk] == ["onnx-to-tflite"]
    assert {body["reproduction"]["file"] for body in run.bodies.values()} == {"repro.zip"}


def test_without_a_minimizer_nothing_is_planned() -> None:
    plan = planned(runtimes=("lite",))

    assert all(branch.reproductions == {} for result in plan.results for branch in result.branches)
