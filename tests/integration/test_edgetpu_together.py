"""A job of models that are compiled together, from its plan to its results; the compiler is a stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from farm.catalog import world
from farm.domain.catalogue import LiveHost
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.plan import Plan, PlannedStep
from farm.domain.planner import make_plan
from farm.domain.wanted import Reason, Submitted, Wanted
from farm.report.schema import schema
from tests.domain_run import Run
from tests.domain_world import file
from tests.edgetpu_compilers import PAIRS, stand_in
from tests.stage_fixtures import Answer, Call, run_calls
from workers import environments
from workers.edgetpu.compiled import read_compiled
from workers.edgetpu.compiler import PROGRAM, program_digest
from workers.edgetpu.model import declared_specs, read_model

pytestmark = [pytest.mark.toolchain]
SOURCES = {"bright": PAIRS / "bright_16x16.tflite", "gabor": PAIRS / "gabor_64x64_p4.tflite"}
STAGE, SHARE = "compile-tflite-to-edgetpu-tflite", "compile-edgetpu-tflite-share"


def submitted(name: str) -> Submitted:
    model = read_model(SOURCES[name].read_bytes())
    inputs, outputs = declared_specs(model, model.inputs), declared_specs(model, model.outputs)
    return Submitted(name, file(name), ModelFacts(Format.TFLITE, inputs, outputs), inspect=f"inspect-{name}")


def in_float(name: str) -> Submitted:
    """Submit a float model with calibration data: it comes to an integer file by int8-full-integer alone."""
    image, scores = TensorSpec("image", "float32", (1, 3, 32, 32)), TensorSpec("scores", "float32", (1, 10))
    facts = ModelFacts(Format.ONNX, (image,), (scores,), parameters=1000)
    arrays = {"image": {"dtype": "float32", "shape": [32, 3, 32, 32]}}
    given = Submitted(name, file(f"{name}.onnx"), facts, inspect=f"inspect-{name}")
    return replace(given, calibration=file("calibration.npz"), calibration_arrays=arrays)


def plan_of(models: Sequence[Submitted], recipes: tuple[str, ...], digest: str = "0" * 64) -> Plan | list[Reason]:
    """Plan models for an Edge TPU together, on one host that attests a compiler."""
    attested = {name: environments.lock_digest(name) for name in environments.names()} | {PROGRAM: digest}
    host = LiveHost("one", "coral-usb", "x86_64", True, ("build.x86_64", "target.coral-usb"), attested)
    together = tuple(model.name for model in models)
    return make_plan(Wanted("job", ("coral-usb",), ("edgetpu",), recipes, together=together), models, world((host,)))


def planned(compiler: Path) -> Plan:
    digest = program_digest(str(compiler.parent)) or ""
    plan = plan_of([submitted(name) for name in SOURCES], ("float32",), digest)
    assert isinstance(plan, Plan), plan
    return plan


def called(step: PlannedStep, made: Mapping[str, Answer], compiler: Path) -> Call:
    """Call a step as it was planned, but for the compiler's place."""
    files = {
        given.role: made[given.step].output(given.output) if given.step else SOURCES[given.artifact.files[0].name]
        for given in step.inputs
        if given.step or given.artifact
    }
    place = {"compiler": str(compiler)} if "compiler" in step.options else {}
    return Call(step.stage, files, {**step.options, **place})


def test_models_of_which_no_two_come_to_a_file_by_one_recipe_are_refused() -> None:
    """Given a model that is integer already and one in float: they never are of one recipe."""
    reasons = plan_of([submitted("bright"), in_float("hands")], ("float32", "int8-full-integer"))

    assert isinstance(reasons, list)
    (told,) = (one.failure.message for one in reasons)
    assert "No two of the models can be compiled together" in told
    assert "(bright with recipe float32; hands with recipe int8-full-integer)" in told


def test_a_model_that_comes_to_its_file_by_another_recipe_is_told_of_with_that_reason() -> None:
    models = [submitted("bright"), in_float("hands"), in_float("poses")]
    plan = plan_of(models, ("float32", "int8-full-integer"))

    assert isinstance(plan, Plan), plan
    (hands,) = (one for one in plan.results if (one.model, one.recipe) == ("hands", "int8-full-integer"))
    assert set(hands.branches[0].beside) == {"poses"}
    assert hands.notes == (
        "Not compiled together with bright: that one is compiled with recipe float32, this one with "
        "int8-full-integer, and only files of one recipe are compiled together.",
    )


def test_an_integer_model_is_not_said_to_need_calibration_data() -> None:
    """Given the recipe of the float model alone; then the other one's result says what keeps it out."""
    plan = plan_of([submitted("bright"), in_float("hands")], ("int8-full-integer",))

    assert isinstance(plan, Plan), plan
    told = {one.model: one for one in plan.results if one.listed}
    assert told["bright"].failure is not None
    assert told["bright"].failure.message.startswith("bright is quantized already")
    assert told["hands"].notes == (f"Not compiled together with bright: {told['bright'].failure.message}",)


def test_each_model_gets_a_result_with_its_own_mapping_and_memory(tmp_path: Path) -> None:
    """Given two models that are integer already; their compilations run for real, comparing and measuring do not."""
    compiler, made = stand_in(tmp_path, "good"), dict[str, Answer]()
    run = Run(planned(compiler))
    while run.ready:
        compiling = {step.key: step for step in run.ready if step.kind == "compile"}
        calls = {key: called(step, made, compiler) for key, step in compiling.items()}
        answers = run_calls("litert", calls, tmp_path / f"after-{len(made)}") if calls else {}
        made |= answers
        for key, answer in answers.items():
            run.succeed_with(compiling[key], answer.facts)
        for step in () if compiling else run.ready:
            run.succeed(step)

    assert sorted(step.stage for key, step in run.plan.steps.items() if key in made) == [SHARE, SHARE, STAGE]
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/result", "$defs": schema()["$defs"]})
    for index, result in enumerate(run.plan.results):
        body, source = run.bodies[index], SOURCES[result.model]
        compiled = read_compiled(source.with_name(f"{source.stem}_edgetpu.tflite").read_bytes())
        assert (body["state"], body["compiled_with"]) == ("succeeded", sorted(SOURCES.keys() - {result.model}))
        assert body["edgetpu"]["predicted"] is False
        assert body["edgetpu"]["memory"]["cached_bytes"] == compiled.cached_bytes
        assert body["edgetpu"]["edge_tpu_subgraphs"] == compiled.edge_tpu_subgraphs == 1
        assert body["edgetpu"]["compiler"]["sha256"] == program_digest(str(compiler.parent))
        assert body["edgetpu"]["operators"] == [{"type": "CONV_2D", "count": 4, "status": "Mapped to Edge TPU"}]
        assert len(body["edgetpu"]["report"]["models"]) == 1
        assert not list(validator.iter_errors(body))
