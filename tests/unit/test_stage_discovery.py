"""Stages and runtimes are found by walking packages, without importing a toolchain."""

import inspect
import sys
from importlib.metadata import EntryPoint

import pytest

from farm.domain.facts import Format
from farm.domain.stage import REGISTRY, Kind, StageInput, StageOutput, stage
from tests.stage_fixtures import toolchains_loaded_by
from workers import stages
from workers.runtimes import Runtime, load_runtimes, runtime_of
from workers.stages import ANYWAY, load_specs, preload_of


def test_loading_specs_imports_no_toolchain() -> None:
    assert toolchains_loaded_by("from workers.stages import load_specs; assert load_specs()") == set()


def test_every_source_has_an_inspection_and_a_reference() -> None:
    specs = load_specs().values()
    inspected = {spec.source for spec in specs if spec.kind is Kind.INSPECT and spec.source}
    referenced = {spec.source for spec in specs if spec.kind is Kind.REFERENCE}
    assert inspected == referenced
    assert Format.ONNX in inspected


def test_no_zygote_imports_what_another_one_does_too() -> None:
    """Each costs seconds and memory on every host; one that imports more serves a stage as well."""
    specs = [s for s in load_specs().values() if s.preload and not s.fresh and not s.spawns]
    zygotes = {(spec.environment, preload_of(spec)) for spec in specs}

    assert [spec.name for spec in specs if not set(spec.preload) - ANYWAY <= set(preload_of(spec))] == []
    for environment, modules in zygotes:
        others = [set(more) for where, more in zygotes - {(environment, modules)} if where == environment]
        assert not any(set(modules) - ANYWAY <= other for other in others), modules


def test_a_name_declared_twice_raises() -> None:
    with pytest.raises(TypeError, match="'inspect-onnx' is declared twice"):
        stage(name="inspect-onnx", version="2", kind=Kind.INSPECT, environment="builder")(lambda given: StageOutput())


def test_third_parties_register_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is imported, and importing it registers its stage."""
    module = type(sys)("acme_stages")
    module.__dict__["stage"] = stage

    def run(given: StageInput) -> StageOutput:
        return StageOutput()

    class Registering:
        def load(self) -> None:
            stage(name="acme-noop", version="1", kind=Kind.OPTIMIZE, environment="builder")(run)

    monkeypatch.setattr(stages, "entry_points", lambda group: [Registering()] if group == stages.ENTRY_POINTS else [])
    load_specs.cache_clear()
    try:
        assert load_specs()["acme-noop"].kind is Kind.OPTIMIZE
    finally:
        REGISTRY.pop("acme-noop", None)
        load_specs.cache_clear()


def test_entry_points_are_asked_for_by_the_documented_group() -> None:
    assert EntryPoint("x", "json:loads", stages.ENTRY_POINTS).group == "edge_model_farm.stages"


@pytest.mark.parametrize("runtime", load_runtimes().values(), ids=lambda runtime: runtime.name)
def test_a_runtime_documents_its_source_and_version(runtime: Runtime) -> None:
    module = inspect.getmodule(runtime.load)
    assert module is not None
    assert "Source:" in (module.__doc__ or "")
    assert "Tested with" in (module.__doc__ or "")


def test_each_format_has_one_runtime_but_tflite() -> None:
    """32-bit ARM has a runtime of its own for it; stages that open what they made take LiteRT."""
    accepted = [source for runtime in load_runtimes().values() for source in runtime.accepts]
    assert {source for source in accepted if accepted.count(source) > 1} == {Format.TFLITE}
    assert runtime_of(Format.TFLITE).name == "litert"
    with pytest.raises(LookupError, match="edgetpu-tflite"):
        runtime_of(Format.EDGETPU_TFLITE)
