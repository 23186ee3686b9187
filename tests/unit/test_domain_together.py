"""Models that are compiled together: one step for all, a share of it for each, and each by itself where that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.domain.errors import BadData, ConversionFailed, EnvironmentMissing, Failure, HostError, JobCancelled
from farm.domain.facts import Format
from farm.domain.plan import Plan, PlannedStep
from farm.domain.progress import LOST, StepPhase
from farm.domain.stage import ON_TARGET, TRANSFORMS, Kind, Options
from farm.domain.together import MOST
from farm.intake import wanted_of
from farm.report.schema import schema
from farm.wire.jobs import JobRequest
from tests.domain_run import Run
from tests.domain_world import CATALOGUE, HOSTS, SPECS, TARGETS, WORLD, model, planned, refused, stage_of


@dataclass(frozen=True, slots=True)
class TpuOptions(Options):
    """As the compiling stage has them, but for those of the job."""

    num_segments: int = 1


TPU_STAGES = (
    replace(
        stage_of("compile-tpu", Kind.COMPILE, source=Format.TFLITE, target=Format.EDGETPU_TFLITE),
        options=TpuOptions,
        share="compile-tpu-share",
        alone=("num_segments",),
    ),
    stage_of(
        "compile-tpu-share",
        Kind.COMPILE,
        source=Format.TFLITE,
        target=Format.EDGETPU_TFLITE,
        inputs=("compiled",),
    ),
    *(stage_of(f"{kind}-tpu", kind, "lite", runtime="tpu", reads=("name",)) for kind in ON_TARGET),
)
BOX = replace(TARGETS["plain-box"], runtimes={"lite": "lite", "tpu": "lite"})
TPU_WORLD = replace(
    WORLD,
    catalogue=replace(
        CATALOGUE,
        specs={**SPECS, **{spec.name: spec for spec in TPU_STAGES}},
        accepts={**CATALOGUE.accepts, "tpu": (Format.EDGETPU_TFLITE,)},
    ),
    targets={**TARGETS, "plain-box": BOX},
    hosts=HOSTS,
)
NAMES = ("faces", "hands", "poses")


def plan_of(*names: str, **wants: object) -> Plan:
    told = {"runtimes": ("tpu",), "recipes": ("int8-static",), "together": names, **wants}
    return planned(*(model(name) for name in names), world=TPU_WORLD, **told)


def wholes(plan: Plan) -> list[PlannedStep]:
    return [step for step in plan.steps.values() if "together" in step.options]


def of_recipe(plan: Plan) -> list[int]:
    return [index for index, result in enumerate(plan.results) if result.recipe == "int8-static"]


def test_one_step_compiles_all_models_of_a_recipe_in_the_order_of_the_job() -> None:
    plan = plan_of(*NAMES)
    (whole,) = [step for step in wholes(plan) if "int8-static" in step.title]

    assert [given.role for given in whole.inputs] == ["model", "beside-1", "beside-2"]
    assert whole.options["together"] == list(NAMES)
    makers = [plan.steps[given.step or ""] for given in whole.inputs]
    assert [maker.stage for maker in makers] == ["quantize-tflite"] * 3
    assert [name in maker.title for name, maker in zip(NAMES, makers, strict=True)] == [True] * 3


def test_every_result_has_its_own_share_and_is_compared_and_measured_by_it() -> None:
    plan = plan_of(*NAMES)
    results = [plan.results[index] for index in of_recipe(plan)]

    assert [result.model for result in results] == list(NAMES)
    for place, result in enumerate(results):
        branch = result.branches[0]
        share = plan.steps[branch.artifact.step or ""]
        own, compiled = share.inputs
        assert (own.role, compiled.role) == ("model", "compiled")
        assert compiled.output == ("model", "beside-1", "beside-2")[place]
        assert plan.steps[compiled.step or ""].inputs[place].step == own.step
        for key in (branch.compare, branch.measure, branch.evaluate):
            assert share.key in plan.steps[key or ""].needs
        assert set(branch.beside) == set(NAMES) - {result.model}
        assert branch.route[-2:] == ("compile-tpu", "compile-tpu-share")
        assert all(need in branch.steps for key in branch.steps for need in plan.steps[key].needs)
        assert result.branches[1].route == branch.route[:-1]
    assert len({result.branches[0].artifact.step for result in results}) == 3


def test_the_key_of_the_step_holds_every_model_their_order_and_the_compiler() -> None:
    keys = {step.key for plan in (plan_of("faces", "hands"), plan_of("hands", "faces")) for step in wholes(plan)}

    assert len(keys) == 2 * len(wholes(plan_of("faces", "hands")))
    assert keys == keys | {step.key for step in wholes(plan_of("faces", "hands"))}
    assert not keys & {step.key for step in wholes(plan_of(*NAMES))}


def test_no_chain_leads_through_a_share() -> None:
    plan = plan_of(*NAMES, together=())

    assert not [step for step in plan.steps.values() if step.stage == "compile-tpu-share"]
    assert not any(branch.beside for result in plan.results for branch in result.branches)


def test_a_result_tells_with_which_others_it_was_compiled() -> None:
    run = Run(plan_of(*NAMES)).finish()
    bodies = [run.bodies[index] for index in of_recipe(run.plan)]

    assert [body["state"] for body in bodies] == ["succeeded"] * 3
    assert any("together with hands, poses" in note for note in bodies[0]["notes"])
    assert bodies[1]["compiled_with"] == ["faces", "poses"]


def test_where_it_fails_every_model_is_compiled_by_itself_and_says_so() -> None:
    said = ConversionFailed("edgetpu_compiler would refuse hands: CONV_2D").failure
    run = Run(plan_of("faces", "hands"))
    run.finish(lambda run, step: run.fail(step, said) if "together" in step.options else run.succeed(step))
    bodies = [run.bodies[index] for index in of_recipe(run.plan)]

    for body in bodies:
        assert body["state"] == "succeeded"
        assert body["compiled_with"] == []
        assert body["route_failures"] == [said.message, None]
        assert any("Compiled by itself" in note for note in body["notes"])


def test_a_model_that_fails_before_costs_the_others_the_sharing_alone() -> None:
    """Given a failure that no other route of its own model mends; then the other one's result names it, and goes on."""
    broken = BadData("The calibration data of hands is all zeros.").failure

    def end(run: Run, step: PlannedStep) -> None:
        is_broken = step.stage == "quantize-tflite" and "hands" in step.title
        run.fail(step, broken) if is_broken else run.succeed(step)

    run = Run(plan_of("faces", "hands")).finish(end)
    faces, hands = (run.bodies[index] for index in of_recipe(run.plan))

    assert faces["state"] == "succeeded"
    assert faces["route_failures"][0] == f"hands, to be compiled together with faces, failed: {broken.message}"
    assert (hands["state"], hands["message"]) == ("failed", broken.message)


def test_without_a_compiler_each_model_fails_as_it_does_by_itself() -> None:
    def end(run: Run, step: PlannedStep) -> None:
        if step.stage != "compile-tpu":
            return run.succeed(step)
        alone = EnvironmentMissing("no compiler", edgetpu={"predicted": True, "of": step.inputs[0].step})
        return run.fail(step, alone.failure)

    run = Run(plan_of("faces", "hands")).finish(end)
    bodies = [run.bodies[index] for index in of_recipe(run.plan)]

    assert [(body["failure_type"], body["who_must_act"]) for body in bodies] == [
        ("environment-missing", "operator")
    ] * 2
    assert len({body["evidence"]["edgetpu"]["of"] for body in bodies}) == 2


def test_a_model_that_has_no_route_is_told_of_to_the_others() -> None:
    lost = replace(model("hands", data=False), failures=(BadData("hands can't be read.").failure,))
    plan = planned(
        model("faces"),
        lost,
        model("poses"),
        world=TPU_WORLD,
        runtimes=("tpu",),
        recipes=("int8-static",),
        together=NAMES,
    )
    faces = next(result for result in plan.results if (result.model, result.recipe) == ("faces", "int8-static"))

    assert set(faces.branches[0].beside) == {"poses"}
    assert "Not compiled together with hands: hands can't be read." in faces.notes


@pytest.mark.parametrize(
    ("names", "wants", "words"),
    [
        (("faces",), {}, "one model, faces; it takes 2 to 10"),
        (tuple(f"m{n}" for n in range(MOST + 1)), {}, "11 models; 10 are the most"),
        (
            ("faces", "hands"),
            {"options": {"compile-tpu": {"num_segments": "2"}}},
            "Option compile-tpu.num_segments is set, and co_compile is asked for",
        ),
        (("faces", "hands"), {"runtimes": ("lite",)}, "for plain-box: none of its runtimes that are asked for"),
    ],
)
def test_what_can_not_be_compiled_together_is_refused(
    names: tuple[str, ...], wants: dict[str, object], words: str
) -> None:
    told = {"runtimes": ("tpu",), "recipes": ("int8-static",), "together": names, **wants}
    (message,) = refused(*(model(name) for name in names), world=TPU_WORLD, **told)

    assert words in message


def test_an_option_that_is_set_to_what_it_is_anyway_is_no_reason_against_it() -> None:
    assert wholes(plan_of("faces", "hands", options={"compile-tpu": {"num_segments": "1"}}))


def ended_by(stage: str, failure: Failure) -> Run:
    """Run two models whose step of a stage fails for the first one, where it works on the shared file."""
    plan = plan_of("faces", "hands")
    shared = next(plan.results[index].branches[0] for index in of_recipe(plan) if plan.results[index].model == "faces")

    def end(run: Run, step: PlannedStep) -> None:
        mine = step.stage == stage and step.key in shared.steps and "faces" in step.title
        run.fail(step, failure) if mine else run.succeed(step)

    return Run(plan).finish(end)


@pytest.mark.parametrize("stage", ["compare-tpu", "measure-tpu"])
def test_a_host_that_fails_after_compiling_costs_nobody_the_sharing(stage: str) -> None:
    unplugged = HostError("The Edge TPU was unplugged.").failure
    run = ended_by(stage, unplugged)
    faces, hands = (run.bodies[index] for index in of_recipe(run.plan))

    assert (faces["state"], faces["message"], faces["compiled_with"]) == ("failed", unplugged.message, ["hands"])
    assert (hands["state"], hands["compiled_with"]) == ("succeeded", ["faces"])
    assert [len(body["routes"]) for body in (faces, hands)] == [1, 1]


@pytest.mark.parametrize("stage", ["compile-tpu-share", "compare-tpu"])
def test_a_file_that_is_given_up_takes_the_others_along_and_says_so(stage: str) -> None:
    """Given a share that maps nothing, or is not the source's function; then the files left would evict each other."""
    run = ended_by(stage, ConversionFailed("Nothing was mapped.").failure)
    bodies = [run.bodies[index] for index in of_recipe(run.plan)]

    for index, body in zip(of_recipe(run.plan), bodies, strict=True):
        assert (body["state"], body["compiled_with"]) == ("succeeded", [])
        branch = run.plan.results[index].branches[run.progress[index].branch]
        assert run.plan.steps[branch.artifact.step or ""].stage == "compile-tpu"
        assert any("given up by all of them" in note for note in body["notes"])
    assert bodies[0]["route_failures"] == ["Nothing was mapped.", None]
    assert "faces, " in bodies[1]["route_failures"][0]
    assert "compiled together with hands, failed: Nothing was mapped." in bodies[1]["route_failures"][0]


ENDS = (ConversionFailed, EnvironmentMissing, BadData, HostError, JobCancelled, None)
PLANS = tuple(plan_of(*NAMES[:count], recipes=("float32", "int8-static")) for count in (2, 3))


CELL = ("target", "target_runtime", "recipe")


def _is_lost(run: Run, key: str) -> bool:
    return run.plan.steps[key].kind in TRANSFORMS and run.states[key].phase in LOST


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(PLANS), st.data())
def test_whatever_steps_do_every_model_ends_once_and_says_how(plan: Plan, data: st.DataObject) -> None:
    """Given steps that end well, with a failure of any kind, or silently for another job's sake."""
    run = Run(plan)
    while run.ready:
        step = data.draw(st.sampled_from(run.ready), label="step")
        if data.draw(st.integers(0, 4), label="ends"):
            run.succeed(step)
        elif (failure := data.draw(st.sampled_from(ENDS), label="failure")) is None:
            run.fail(step, None, StepPhase.CANCELLED)
        else:
            run.fail(step, failure("It failed.").failure)

    assert sorted(run.concluded) == list(range(len(plan.results)))
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/result", "$defs": schema()["$defs"]})
    for index, body in run.bodies.items():
        shares = run.progress[index].branch == 0
        cell = [other for other in run.bodies.values() if all(other[name] == body[name] for name in CELL)]
        namers = [other["model"] for other in cell if body["model"] in other["compiled_with"]]
        assert sorted(body["compiled_with"]) == sorted(namers), "they are compiled together with each other"
        assert not list(validator.iter_errors(body))
        assert bool(body["compiled_with"]) is shares
        if shares and body["state"] == "failed":
            assert not any(_is_lost(run, key) for key in run.plan.results[index].branches[0].steps)


def test_a_request_names_the_models_to_compile_together() -> None:
    files = [{"name": "net.tflite", "sha256": "0" * 64, "size_bytes": 1}]
    models = [{"file_name": "net.tflite", "artifact": {"files": files}}] * 2
    request = JobRequest.model_validate({"models": models, "targets": ["coral-usb"], "co_compile": True})

    assert wanted_of("job", request).together == ("net", "net-2")
    assert wanted_of("job", request.model_copy(update={"co_compile": False})).together == ()
