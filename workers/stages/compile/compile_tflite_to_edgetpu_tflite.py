"""Compile a full-integer TFLite model for the Edge TPU.

Tool: edgetpu_compiler 16.0.384591198, supplied by the operator on a build host's PATH.
Document: https://coral.ai/docs/edgetpu/compiler
Limits: the model is looked at first, and refused with the operator's name where the compiler would not read it. The
compiled file runs on a device only, so that its function is proven on the target's host, by comparing.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.errors import BadRequest, ConversionFailed, EnvironmentMissing
from farm.domain.facts import Format, ModelFacts
from farm.domain.recipe import BASELINE
from farm.domain.stage import Kind, Options, StageInput, StageOutput, Verdict, stage
from workers.edgetpu.compiled import Compiled, read_compiled
from workers.edgetpu.compiler import (
    MOST_TIMEOUT_S,
    PROGRAM,
    Compilation,
    Compiler,
    Flags,
    command,
    compile_models,
    find_compiler,
)
from workers.edgetpu.limits import DEFAULT_MIN_RUNTIME_VERSION, LAST_COMPILER, Status
from workers.edgetpu.model import declared_specs, read_model
from workers.edgetpu.predict import Prediction, predict
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES
from workers.stages.contracts import Declared, bind_unchanged
from workers.stages.transforms import given_contract

NOT_QUANTIZED = "Model not quantized"
BESIDE = "beside-"
"""What the roles of models begin with that are compiled together with the step's own."""
INTEGER_RECIPES = ("int8-full-integer", "int8-static")
"""Recipes after which a TFLite file computes in integers; int8-static converts at its ends, on the CPU."""


@dataclass(frozen=True, slots=True)
class EdgeTpuOptions(Options):
    """What the compiler may be told, and by which recipe its model was made.

    `compiler` is its name on the steps' PATH, or a path below /usr; `min_runtime_version` the oldest Edge TPU runtime
    that must run the result; `num_segments` splits the model for as many devices; operators after
    `intermediate_tensors` stay on the CPU. `compiler_sha256` is that of the host that the step was planned for.
    """

    compiler: str = PROGRAM
    min_runtime_version: int = DEFAULT_MIN_RUNTIME_VERSION
    search_delegate: bool = False
    num_segments: int = 1
    intermediate_tensors: tuple[str, ...] = ()
    compile_timeout_s: int = 180
    compiler_sha256: str | None = None
    recipe: str = BASELINE


def check(facts: ModelFacts, profile: Mapping[str, Any], options: EdgeTpuOptions) -> Verdict:
    """Refuse what the compiler would not read: a model that no recipe makes an integer one, or a TFLite source."""
    if options.compile_timeout_s > MOST_TIMEOUT_S:
        return Verdict.no(_too_long(options))
    is_tflite = facts.format is Format.TFLITE
    refusal = facts.extra.get("edgetpu", {}).get("refusal") if is_tflite else None
    floats = refusal.startswith(NOT_QUANTIZED) if refusal else not is_tflite
    if floats and options.recipe not in INTEGER_RECIPES:
        return Verdict.no(
            f"{NOT_QUANTIZED}: {PROGRAM} reads integer models only, and recipe {options.recipe} leaves a "
            f"{facts.format} model in float. Choose recipe int8-full-integer, with calibration data."
        )
    if refusal and not floats:
        return Verdict.no(f"{PROGRAM} would refuse the model: {refusal}.")
    return Verdict.yes()


@stage(
    name="compile-tflite-to-edgetpu-tflite",
    version="2",
    kind=Kind.COMPILE,
    environment="litert",
    source=Format.TFLITE,
    target=Format.EDGETPU_TFLITE,
    options=EdgeTpuOptions,
    tools=("ai-edge-litert",),
    programs=(("compiler_sha256", PROGRAM),),
    spawns=True,
    timeout_s=1800.0,
)
def run(given: StageInput) -> StageOutput:
    """Compile, read the result back, and tell both what was predicted and what came.

    Args:
        given: files["model"], and further ones (`beside-1` …) that are compiled together with it to share the memory.
    Returns: model_edgetpu.tflite, or a folder of segments in the order in which they run, as "model"; each further one
        under its own role; facts["edgetpu"] with mapping, memory and the compiler.

    Raises:
        BadRequest: options that can't be, or a tensor that the model does not have.
        ConversionFailed: the compiler would refuse the model, refuses it, or maps nothing.
        EnvironmentMissing: no usable compiler on this host; the evidence holds the predicted mapping.
        ToolCrashed, ToolTimedOut, ArtifactBroken: what can befall the compiler.
    """
    options: EdgeTpuOptions = given.options
    flags = _flags(options)
    entry = entry_file(given.files["model"], SUFFIXES)
    predicted = predict(entry.read_bytes(), min_runtime_version=options.min_runtime_version)
    if predicted.refusal is not None:
        raise ConversionFailed(
            f"{PROGRAM} was not called, for it would refuse the model: {predicted.refusal}.",
            remedy=_way_out(predicted.refusal, options),
            edgetpu=predicted.as_facts(),
        )
    compiler = find_compiler(options.compiler, {"edgetpu": predicted.as_facts()})
    _check_planned(compiler, options)
    models = _models(given, flags)
    folder = given.work / "compiled"
    folder.mkdir()
    made = compile_models(compiler, models, folder, flags)
    print(made.output, flush=True)
    parts = [read_compiled(file.read_bytes()) for file in made.files]
    return StageOutput(
        files=_files(models, made, folder),
        facts={"edgetpu": _facts(compiler, made, parts, predicted)},
        contract=_contract(given, models[0], made),
        reproduce=shlex.join(command(compiler, [Path(model.name) for model in models], Path(), flags)),
    )


def _check_planned(compiler: Compiler, options: EdgeTpuOptions) -> None:
    """See that this is the compiler that the step's key was made with: its result is kept under that key."""
    if options.compiler_sha256 not in (None, compiler.sha256):
        raise EnvironmentMissing(
            f"The step was planned for the {PROGRAM} with sha256 {options.compiler_sha256}; {compiler.path} on this "
            f"host is version {compiler.version} with sha256 {compiler.sha256}.",
            remedy="Give every build host the same compiler, or submit the job again: `farm retry JOB`.",
        )


def _models(given: StageInput, flags: Flags) -> list[Path]:
    """Copy the models under the names of their roles: the compiler names its files after them."""
    roles = ["model", *sorted(role for role in given.files if role.startswith(BESIDE))]
    if len(roles) > 1 and flags.num_segments > 1:
        raise BadRequest("Models that are compiled together can't be split: choose num_segments=1.")
    for role in roles:
        shutil.copyfile(entry_file(given.files[role], SUFFIXES), given.work / f"{role}.tflite")
    models = [given.work / f"{role}.tflite" for role in roles]
    known = {tensor.name for model in models for tensor in read_model(model.read_bytes()).tensors}
    if unknown := [name for name in flags.intermediate_tensors if name not in known]:
        raise BadRequest(f"intermediate_tensors names {', '.join(unknown)}, and the model has no such tensor.")
    return models


def _files(models: list[Path], made: Compilation, folder: Path) -> dict[str, Path]:
    if len(models) == 1:
        return {"model": made.files[0] if len(made.files) == 1 else _segments(made, folder)}
    return {model.stem: path for model, path in zip(models, made.files, strict=True)}


def _flags(options: EdgeTpuOptions) -> Flags:
    if options.num_segments < 1 or options.compile_timeout_s < 1:
        raise BadRequest("num_segments and compile_timeout_s are at least 1.")
    if options.compile_timeout_s > MOST_TIMEOUT_S:
        raise BadRequest(_too_long(options))
    return Flags(
        min_runtime_version=options.min_runtime_version,
        search_delegate=options.search_delegate,
        num_segments=options.num_segments,
        intermediate_tensors=options.intermediate_tensors,
        timeout_s=options.compile_timeout_s,
    )


def _way_out(refusal: str, options: EdgeTpuOptions) -> str:
    """Say what to do about a model that the compiler would refuse; `recipe` tells whose converter wrote it."""
    if not refusal.startswith((Status.VERSION.value, "Op builtin_code")):
        return "Fix every shape, leave no operator in float, and quantize to full-integer int8."
    if options.recipe in INTEGER_RECIPES:
        return (
            f"The farm's own converter wrote this operator, for a newer TensorFlow Lite than {PROGRAM} {LAST_COMPILER} "
            "reads; another route, whose converter may write an older one, is tried. When all fail alike, quantize "
            "with TensorFlow 2.8 or before, and submit that .tflite file with recipe float32."
        )
    return "Convert the model again with TensorFlow 2.8 or before, whose converter writes versions that it reads."


def _too_long(options: EdgeTpuOptions) -> str:
    return (
        f"compile_timeout_s is {options.compile_timeout_s}, and {MOST_TIMEOUT_S} is the most: the step itself ends "
        "after half an hour. Choose less, split the model with num_segments, or make its activations smaller."
    )


def _segments(made: Compilation, folder: Path) -> Path:
    """Leave only the models in the folder: the log of operations is part of the facts."""
    for path in folder.iterdir():
        if path not in made.files:
            path.unlink()
    return folder


def _contract(given: StageInput, model: Path, made: Compilation) -> Contract:
    """Bind the compiled file's tensors, as it declares them: nothing here could run it."""
    parts = [path for path in made.files if path.name.startswith(model.stem)]
    first, last = _declared(parts[0]), _declared(parts[-1])
    return bind_unchanged(given_contract(given), _declared(model), Declared(first.inputs, last.outputs))


def _declared(path: Path) -> Declared:
    model = read_model(path.read_bytes())
    return Declared(declared_specs(model, model.inputs), declared_specs(model, model.outputs))


def _facts(compiler: Compiler, made: Compilation, parts: list[Compiled], predicted: Prediction) -> dict[str, Any]:
    operators = [{"type": row.type, "count": row.count, "status": row.status} for row in made.report.operators]
    return {
        "predicted": False,
        "compiler": compiler.as_facts(),
        "report": made.as_facts(),
        "min_runtime_version": max(part.min_runtime_version for part in parts),
        "memory": {
            "cached_bytes": sum(part.cached_bytes for part in parts),
            "streamed_bytes": sum(part.streamed_bytes for part in parts),
        },
        "operators": operators,
        "cpu_operators": [name for part in parts for _, name in part.cpu_operators],
        "edge_tpu_subgraphs": sum(part.edge_tpu_subgraphs for part in parts),
        "prediction": predicted.as_facts(),
    }
