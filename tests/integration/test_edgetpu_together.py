"""A job of models that are compiled together, from its plan to its results; the compiler is a stand-in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest

from farm.catalog import world
from farm.domain.catalogue import LiveHost
from farm.domain.facts import Format, ModelFacts
from farm.domain.plan import Plan, PlannedStep
from farm.domain.planner import make_plan
from farm.domain.wanted import Submitted, Wanted
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


def planned(compiler: Path) -> Plan:
    """Plan both models for an Edge TPU, on one host that attests the compiler."""
    attested = {name: environments.lock_digest(name) for name in environments.names()}
    attested |= {PROGRAM: program_digest(str(compiler.parent)) or ""}
    host = LiveHost("one", "coral-usb", "x86_64", True, ("build.x86_64", "target.coral-usb"), attested)
    wanted = Wanted("job", ("coral-usb",), ("edgetpu",), ("float32",), together=tuple(SOURCES))
    plan = make_plan(wanted, [submitted(name) for name in SOURCES], world((host,)))
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
