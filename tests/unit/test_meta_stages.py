"""Every stage documents itself, and what it declares exists: formats, environment, pins, profile fields."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from farm.catalog import targets
from farm.domain.recipe import RECIPES
from farm.domain.stage import ON_TARGET, TRANSFORMS, Kind, Options, StageSpec
from hardware_profiles.loader import load_profiles
from workers import environments
from workers.runtimes import load_runtimes
from workers.stages import load_specs

SPECS = load_specs()
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def run_of(spec: StageSpec) -> Callable[..., Any]:
    """Return the function behind a stage that is made once per runtime."""
    return spec.run.func if isinstance(spec.run, functools.partial) else spec.run


def told_by(spec: StageSpec) -> str:
    """Return a stage's module docstring, and those of the modules it refers to for the tool it shares."""
    told = inspect.getdoc(inspect.getmodule(run_of(spec))) or ""
    shared = re.findall(r"workers/stages/(\w+)\.py", told)
    others = [importlib.import_module(f"workers.stages.{name}") for name in shared]
    return "\n".join([told, *(inspect.getdoc(other) or "" for other in others)])


every_stage = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@every_stage
def test_a_stage_documents_its_tool_and_its_source(spec: StageSpec) -> None:
    told = told_by(spec)

    assert len(told.splitlines()[0]) > 20
    if spec.kind in TRANSFORMS:
        assert re.search(r"^Tools?\b", told, re.MULTILINE), "names no tool"
        assert re.search(r"\b\d+\.\d+", told), "names no version"
        assert "https://" in told, "names no document"
        assert re.search(r"^Limits?: ", told, re.MULTILINE), "names no limits"


@every_stage
def test_a_stage_is_named_for_what_it_does(spec: StageSpec) -> None:
    assert NAME.fullmatch(spec.name)
    if spec.kind in TRANSFORMS:
        assert spec.source is not None
        assert spec.target is not None
    else:
        assert spec.name.startswith(f"{spec.kind}-")


@every_stage
def test_a_stage_lives_in_the_folder_of_its_kind(spec: StageSpec) -> None:
    assert run_of(spec).__module__.startswith(f"workers.stages.{spec.kind}.")


@every_stage
def test_an_environment_has_a_lock_with_the_tools_a_stage_declares(spec: StageSpec) -> None:
    assert spec.environment in environments.names()
    assert {tool for tool in spec.tools if tool not in environments.pins(spec.environment)} == set()
    assert spec.tools or spec.kind is Kind.INSPECT


@every_stage
def test_options_are_frozen_values_with_defaults(spec: StageSpec) -> None:
    assert issubclass(spec.options, Options)
    assert spec.options() == spec.options()
    assert spec.options.__dataclass_params__.frozen  # type: ignore[attr-defined]


@every_stage
def test_limits_are_positive_and_recipes_known(spec: StageSpec) -> None:
    assert spec.timeout_s > 0
    assert spec.memory_bytes >= 256 << 20
    assert spec.recipe is None or spec.recipe in RECIPES
    assert spec.runtime is None or spec.runtime in load_runtimes()
    assert spec.kind not in ON_TARGET or spec.runtime is not None


@every_stage
def test_profile_fields_a_stage_reads_are_known_to_a_profile(spec: StageSpec) -> None:
    for path in spec.reads:
        assert any(target.read(path) is not None for target in targets().values()), path


def test_what_runs_on_a_target_is_keyed_by_the_target() -> None:
    """Else two targets that agree in every field that is read would share one measurement."""
    assert [spec.name for spec in SPECS.values() if spec.kind in ON_TARGET and "name" not in spec.reads] == []


def test_every_measurement_is_run_in_a_new_process() -> None:
    assert [spec.name for spec in SPECS.values() if spec.kind is Kind.MEASURE and not spec.fresh] == []


def test_every_runtime_of_a_profile_can_be_compared_and_measured() -> None:
    able = {(spec.kind, spec.runtime) for spec in SPECS.values()}
    deployable = {runtime.name for runtime in load_runtimes().values() if runtime.deployable}

    for name in deployable:
        assert {(kind, name) for kind in ON_TARGET} <= able


def test_every_profile_loads_and_is_a_target() -> None:
    profiles = load_profiles()

    assert len(profiles) >= 8
    assert set(targets()) == set(profiles)
    for name, target in targets().items():
        assert target.architectures, name
        assert set(target.runtimes.values()) <= {*environments.names(), *load_runtimes()}, name


def test_loading_specs_imports_no_toolchain() -> None:
    assert {"torch", "tensorflow", "onnx", "onnxruntime", "openvino"}.isdisjoint(sys.modules)


def test_declared_packages_are_pinned() -> None:
    for name in environments.names():
        assert set(environments.declared(name)) <= set(environments.pins(name)), name
        assert dataclasses.asdict(environments.wanted(name))["disk_bytes"] > 0


def test_packages_shared_by_environments_that_open_the_same_files_agree() -> None:
    for package in ("onnxruntime", "ai-edge-litert", "numpy"):
        ours = [name for name in environments.names() if package not in environments.wanted(name).system]
        versions = {pins[package] for pins in map(environments.pins, ours) if package in pins}
        assert len(versions) == 1, package
