"""The stage contract: what a stage declares, what it is given, what it gives back.

A stage is one module with two functions and one decorator:

    def check(facts, profile, options) -> Verdict: ...     # metadata only, imports no toolchain

    @stage(name="onnx-to-tflite", version="1", kind=Kind.CONVERT, source=Format.ONNX, target=Format.TFLITE,
           environment="onnx2tf", tools=("onnx2tf",))
    def run(given: StageInput) -> StageOutput: ...          # imports its toolchain inside
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.facts import Format, ModelFacts, TensorSpec


class Kind(StrEnum):
    """What a stage does; also the folder of workers/stages it lives in.

    A `trace` stage compares a quantized model layer by layer with its float one; a `minimize` stage makes a small
    reproduction of another stage's failure.
    """

    INSPECT = "inspect"
    EXPORT = "export"
    CONVERT = "convert"
    OPTIMIZE = "optimize"
    QUANTIZE = "quantize"
    COMPILE = "compile"
    REFERENCE = "reference"
    COMPARE = "compare"
    TRACE = "trace"
    EVALUATE = "evaluate"
    MEASURE = "measure"
    MINIMIZE = "minimize"


TRANSFORMS = (Kind.EXPORT, Kind.CONVERT, Kind.OPTIMIZE, Kind.QUANTIZE, Kind.COMPILE)
ON_TARGET = (Kind.COMPARE, Kind.EVALUATE, Kind.MEASURE)
"""Kinds that run on the target's own host, under the target's runtime; comparisons also run on build hosts."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stage's answer to "can you do this?"; when not, the reason is a full sentence with a way out."""

    can: bool
    reason: str | None = None

    @staticmethod
    def yes() -> Verdict:
        return Verdict(True)

    @staticmethod
    def no(reason: str) -> Verdict:
        return Verdict(False, reason)


@dataclass(frozen=True, slots=True)
class Options:
    """What every stage may be told; a stage with more subclasses this.

    `input_specs` are the source model's inputs with every axis fixed, `output_specs` its outputs as inspected;
    `ranges` are the least and the greatest value of the inputs that declare them.
    """

    input_specs: tuple[TensorSpec, ...] = ()
    output_specs: tuple[TensorSpec, ...] = ()
    ranges: Mapping[str, tuple[float, float]] | None = None


@dataclass(frozen=True, slots=True)
class StageInput:
    """What a run is given.

    Attributes:
        files: role -> path of the file, or of the folder when the artifact is a tree. Read-only.
        options: the stage's own options class.
        profile: the profile fields the stage declared in `reads`.
        contract: how the source's tensors appear in files["model"]; None when that is the source itself.
        work: the only folder that may be written; empty at the start, private to this run.
    """

    files: Mapping[str, Path]
    options: Any
    profile: Mapping[str, Any]
    contract: Contract | None
    work: Path


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a run gives back.

    Attributes:
        files: output name -> file or folder under `work`; a transform's artifact is named "model".
        facts: JSON values.
        contract: how the source's tensors appear in files["model"].
        reproduce: a shell command that repeats the tool call.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    contract: Contract | None = None
    reproduce: str | None = None


Check = Callable[[ModelFacts, Mapping[str, Any], Any], Verdict]
Run = Callable[[StageInput], StageOutput]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What a stage declares.

    Attributes:
        inputs: roles it needs beside "model": "calibration", "samples", "evaluation" …
        runtime: the runtime it runs under (compare, evaluate, measure, reference), else None.
        recipe: the recipe it applies (quantize, or a converter that quantizes), else None.
        reads: dotted profile fields that may change its output ("cpu.features").
        tools: packages whose pins are part of the key.
        preload: modules its zygote imports before any fork.
        cost: rank among alternatives, lower is tried first.
        fresh: exec'd in a new process instead of forked from a zygote (every measurement).
        spawns: starts child processes of its own, so it needs the exec policy.
        programs: (option, program of the operator): the option is given the digest that the host attests.
        share: the stage that takes one model's file out of what this one made of several; None: it takes one model.
        alone: options that a job may set where it takes one model, and not where it takes several.
    """

    name: str
    version: str
    kind: Kind
    environment: str
    run: Run
    check: Check
    source: Format | None = None
    target: Format | None = None
    inputs: tuple[str, ...] = ()
    runtime: str | None = None
    recipe: str | None = None
    options: type[Any] = Options
    reads: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    timeout_s: float = 600.0
    memory_bytes: int = 8 << 30
    cost: int = 10
    fresh: bool = False
    spawns: bool = False
    programs: tuple[tuple[str, str], ...] = ()
    share: str | None = None
    alone: tuple[str, ...] = ()

    def asks(self, option: str) -> bool:
        """Tell whether its options have a field of that name."""
        return any(one.name == option for one in fields(self.options))

    def verdict(self, facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
        """Ask its check, behind what holds for every stage: what is quantized is not quantized once more."""
        if self.kind is Kind.QUANTIZE and facts.is_quantized:
            return Verdict.no(
                f"The model is quantized already, and {self.name} takes float models. Choose recipe float32, which "
                "leaves a model as it is, or submit the float model."
            )
        return self.check(facts, profile, options)


REGISTRY: dict[str, StageSpec] = {}


def always(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    """Accept everything: the check of stages whose runtime or format says it all."""
    return Verdict.yes()


def stage(*, name: str, version: str, kind: Kind, environment: str, **declared: Any) -> Callable[[Run], Run]:
    """Register a stage; its module's `check` is taken along.

    Raises:
        TypeError: the name is taken.
    """

    def register(run: Run) -> Run:
        if name in REGISTRY:
            raise TypeError(f"stage {name!r} is declared twice")
        check = declared.pop("check", None) or getattr(sys.modules[run.__module__], "check", always)
        REGISTRY[name] = StageSpec(name, version, kind, environment, run, check, **declared)
        return run

    return register
