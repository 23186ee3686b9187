"""What every registered stage promises, whoever wrote it."""

import dataclasses
import inspect
import re
from functools import partial
from types import ModuleType

import pytest

from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.routes import find_routes
from farm.domain.stage import ON_TARGET, TRANSFORMS, Kind, Options, StageSpec, Verdict
from hardware_profiles.loader import load_profiles
from workers import environments
from workers.runtimes import load_runtimes
from workers.stages import load_specs

STAGES = tuple(load_specs().values())
each = pytest.mark.parametrize("spec", STAGES, ids=lambda spec: spec.name)
TENSOR = TensorSpec("x", "float32", (1, 8))


def module_of(spec: StageSpec) -> ModuleType:
    run = spec.run.func if isinstance(spec.run, partial) else spec.run
    module = inspect.getmodule(run)
    assert module is not None
    return module


@each
def test_its_name_says_what_it_does(spec: StageSpec) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", spec.name)
    if spec.kind in (Kind.EXPORT, Kind.CONVERT):
        assert "-to-" in spec.name
    else:
        assert spec.name.startswith(f"{spec.kind}-")


@each
def test_it_lives_in_the_folder_of_its_kind(spec: StageSpec) -> None:
    assert module_of(spec).__name__.startswith(f"workers.stages.{spec.kind}.")


@each
def test_it_documents_its_tool_and_source(spec: StageSpec) -> None:
    text = module_of(spec).__doc__ or ""
    if spec.kind in (*TRANSFORMS, Kind.INSPECT):
        assert re.search(r"\b(source|documents?)\b|https://", text, re.IGNORECASE), text
    assert text


@each
def test_its_key_rests_on_pins(spec: StageSpec) -> None:
    assert spec.environment in environments.names()
    pinned = environments.pins(spec.environment)
    assert spec.tools
    assert [tool for tool in spec.tools if tool not in pinned] == []


@each
def test_its_options_travel_as_json(spec: StageSpec) -> None:
    assert issubclass(spec.options, Options)
    assert spec.options.__dataclass_params__.frozen
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(spec.options))


@each
def test_what_it_reads_is_in_every_profile(spec: StageSpec) -> None:
    for profile in load_profiles().values():
        fields = profile.model_dump(mode="json")
        for path in spec.reads:
            value = fields
            for part in path.split("."):
                assert part in value, f"{profile.name} has no {path}"
                value = value[part]


@each
def test_it_gives_a_verdict_from_facts_alone(spec: StageSpec) -> None:
    facts = ModelFacts(spec.source or Format.ONNX, (TENSOR,), (TENSOR,), operators={"Conv": 1})
    profile = dict.fromkeys(spec.reads)
    verdict = spec.check(facts, profile, spec.options(input_specs=(TENSOR,), output_specs=(TENSOR,)))
    assert isinstance(verdict, Verdict)
    assert verdict.can or verdict.reason


@pytest.mark.parametrize("spec", [s for s in STAGES if s.kind in ON_TARGET], ids=lambda spec: spec.name)
def test_what_runs_on_a_target_is_keyed_by_it(spec: StageSpec) -> None:
    """The same artifact on two targets is two results."""
    assert "name" in spec.reads
    assert spec.runtime in load_runtimes()
    assert spec.fresh is (spec.kind is Kind.MEASURE)


def test_full_integer_is_made_of_a_float_tflite_file_first() -> None:
    """The detour through a SavedModel needs two more toolchains."""
    best, *others = find_routes(Format.ONNX, (Format.TFLITE,), "int8-full-integer", STAGES)

    assert best.names == ("onnx-to-tflite", "quantize-tflite-int8-full-integer")
    assert any("onnx-to-tf-savedmodel" in route.names for route in others)
