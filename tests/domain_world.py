"""A toy world for the planner: formats, stages and hosts as the real ones declare them, and no tool behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from farm.domain.artifact import Artifact, FileRef
from farm.domain.catalogue import Catalogue, LiveHost, Target
from farm.domain.codec import digest
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.plan import Plan
from farm.domain.planner import make_plan
from farm.domain.scenario import Scenario
from farm.domain.stage import ON_TARGET, Kind, Options, StageInput, StageOutput, StageSpec, Verdict, always
from farm.domain.wanted import Submitted, Wanted, World

IMAGE = TensorSpec("image", "float32", ("N", 3, 32, 32))
SCORES = TensorSpec("scores", "float32", ("N", 10))
PINS = {"builder": {"exporter": "1.0", "converter": "2.0", "quantizer": "3.0"}, "ort": {"ort": "1.32"}, "lite": {}}
LOCKS = {name: digest(name) for name in PINS}


@dataclass(frozen=True, slots=True)
class ToyOptions(Options):
    samples: int = 8
    threads: int = 1
    metric: str = "top1"
    part: str | None = None
    reports: bool = False
    selects: bool = False
    ranges: Mapping[str, tuple[float, float]] | None = None
    short: bool = False
    min_runs: int = 50
    min_s: float = 1.0
    max_s: float = 30.0
    scenario: Scenario = Scenario.SINGLE_STREAM
    threads_sweep: tuple[int, ...] = ()
    sustained_s: float = 0.0
    samples_per_query: int = 8
    target_qps: float = 10.0
    latency_bound_ms: float | None = None


def run_nothing(given: StageInput) -> StageOutput:
    raise AssertionError("a plan runs nothing")


def stage_of(name: str, kind: Kind, environment: str = "builder", **declared: Any) -> StageSpec:
    check = declared.pop("check", always)
    return StageSpec(name, "1", kind, environment, run_nothing, check, options=ToyOptions, **declared)


def refuse(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return Verdict.no("Operator Loop has no counterpart; unroll it.")


SPECS = {
    spec.name: spec
    for spec in (
        stage_of(
            "export-onnx", Kind.EXPORT, source=Format.TORCH_EXPORTED_PROGRAM, target=Format.ONNX, tools=("exporter",)
        ),
        stage_of("onnx-to-tflite", Kind.CONVERT, source=Format.ONNX, target=Format.TFLITE, tools=("converter",)),
        stage_of("onnx-to-tflite-slowly", Kind.CONVERT, source=Format.ONNX, target=Format.TFLITE, cost=30),
        stage_of(
            "quantize-onnx",
            Kind.QUANTIZE,
            source=Format.ONNX,
            target=Format.ONNX,
            recipe="int8-static",
            inputs=("calibration",),
            tools=("quantizer",),
            reads=("cpu.vnni",),
        ),
        stage_of(
            "quantize-tflite",
            Kind.QUANTIZE,
            source=Format.TFLITE,
            target=Format.TFLITE,
            recipe="int8-static",
            inputs=("calibration",),
        ),
        stage_of("trace-onnx", Kind.TRACE, source=Format.ONNX, inputs=("float", "samples")),
        stage_of("reference-onnx", Kind.REFERENCE, source=Format.ONNX),
        stage_of("reference-torch", Kind.REFERENCE, source=Format.TORCH_EXPORTED_PROGRAM),
        *(
            stage_of(
                f"{kind}-{runtime}",
                kind,
                runtime,
                runtime=runtime,
                reads=("name",),
                tools=(runtime,),
                fresh=kind is Kind.MEASURE,
            )
            for runtime in ("ort", "lite")
            for kind in ON_TARGET
        ),
    )
}
CATALOGUE = Catalogue(SPECS, {"ort": (Format.ONNX,), "lite": (Format.TFLITE,)}, PINS, LOCKS)
TARGETS = {
    name: Target(name, ("x86_64",), {"ort": "ort", "lite": "lite"}, {"name": name, "cpu": {"vnni": vnni, "cores": 4}})
    for name, vnni in (("plain-box", False), ("vnni-box", True))
}
HOSTS = (
    LiveHost("one", "plain-box", "x86_64", True, ("build.x86_64", "target.plain-box"), LOCKS),
    LiveHost("two", "vnni-box", "x86_64", True, ("target.vnni-box",), LOCKS),
    LiveHost("shed", "plain-box", "x86_64", False, ("build.x86_64",), LOCKS),
)
WORLD = World(CATALOGUE, TARGETS, HOSTS)


def with_specs(**changed: StageSpec | None) -> World:
    """Return the world with stages replaced or, by None, taken away; '_' stands for '-' in their names."""
    specs = {**SPECS, **{name.replace("_", "-"): spec for name, spec in changed.items()}}
    return replace(WORLD, catalogue=replace(CATALOGUE, specs={name: spec for name, spec in specs.items() if spec}))


@dataclass(frozen=True, slots=True)
class ToyFailing(Options):
    stage: str = ""
    options: Mapping[str, Any] | None = None
    profile: Mapping[str, Any] | None = None


def minimizing() -> World:
    """Return the world with a stage that shrinks ONNX models."""
    minimizer = stage_of("minimize-onnx", Kind.MINIMIZE, source=Format.ONNX)
    return with_specs(minimize_onnx=replace(minimizer, options=ToyFailing))


def file(name: str, content: str | None = None) -> Artifact:
    return Artifact((FileRef(name, digest(content or name), 1000),))


CALIBRATION = {"image": {"dtype": "float32", "shape": [32, 3, 32, 32]}}
LABELLED = {**CALIBRATION, "labels": {"dtype": "int64", "shape": [32]}}


def model(name: str = "net", fmt: Format = Format.ONNX, *, data: bool = True, **changes: Any) -> Submitted:
    """Submit a small classifier, with calibration and labelled data unless told otherwise."""
    facts = ModelFacts(fmt, (IMAGE,), (SCORES,), parameters=1000)
    made = Submitted(name, file(f"{name}.bin"), facts, inspect=f"inspect-{name}")
    if data:
        made = replace(
            made,
            calibration=file("calibration.npz"),
            calibration_arrays=CALIBRATION,
            evaluation=file("evaluation.npz"),
            evaluation_arrays=LABELLED,
            metric="top1",
        )
    return replace(made, **changes)


def wanted(**changes: Any) -> Wanted:
    made = Wanted("job-1", ("plain-box",), None, ("float32", "int8-static"))
    return replace(made, **changes)


def planned(*models: Submitted, world: World = WORLD, **wants: Any) -> Plan:
    made = make_plan(wanted(**wants), models or (model(),), world)
    assert isinstance(made, Plan), [reason.failure.message for reason in made]
    return made


def refused(*models: Submitted, world: World = WORLD, **wants: Any) -> list[str]:
    """Plan what is refused, and return the messages."""
    made = make_plan(wanted(**wants), models or (model(),), world)
    assert not isinstance(made, Plan), "it was planned"
    return [reason.failure.message for reason in made]
