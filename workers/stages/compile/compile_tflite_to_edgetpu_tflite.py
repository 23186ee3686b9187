"""Compile a full-integer TFLite model for the Edge TPU.

Tool: edgetpu_compiler 16.0.384591198, supplied by the operator on a build host's PATH.
Document: https://coral.ai/docs/edgetpu/compiler
Limits: the model is looked at first, and refused with the operator's name where the compiler would not read it. The
compiled file runs on a device only, so that its function is proven on the target's host, by comparing.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.errors import BadRequest, ConversionFailed, EnvironmentMissing
from farm.domain.facts import Format, ModelFacts
from farm.domain.recipe import BASELINE
from farm.domain.stage import Kind, Options, StageInput, StageOutput, Verdict, stage
from farm.domain.together import role_of
from workers.edgetpu.compiled import Compiled
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
from workers.edgetpu.model import read_model
from workers.edgetpu.predict import Prediction, predict
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES
from workers.stages.compile.edgetpu_files import bound, compiled_facts, disagreement, need_mapped, read_made
from workers.stages.compile.edgetpu_sharing import facts_of_each, need_shared

NOT_QUANTIZED = "Model not quantized"
INTEGER_RECIPES = ("int8-full-integer", "int8-static")
"""Recipes after which a TFLite file computes in integers; int8-static converts at its ends, on the CPU."""


@dataclass(frozen=True, slots=True)
class EdgeTpuOptions(Options):
    """What the compiler may be told, and by which recipe its model was made.

    `compiler` is its name on the steps' PATH, or a path below /usr; `min_runtime_version` the oldest Edge TPU runtime
    that must run the result; `num_segments` splits the model for as many devices; operators after
    `intermediate_tensors` stay on the CPU. `compiler_sha256` is that of the host that the step was planned for.
    `together` names the models where they are several, in the order of their roles.
    """

    compiler: str = PROGRAM
    min_runtime_version: int = DEFAULT_MIN_RUNTIME_VERSION
    search_delegate: bool = False
    num_segments: int = 1
    intermediate_tensors: tuple[str, ...] = ()
    compile_timeout_s: int = 180
    compiler_sha256: str | None = None
    recipe: str = BASELINE
    together: tuple[str, ...] = ()


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
    version="6",
    kind=Kind.COMPILE,
    environment="litert",
    source=Format.TFLITE,
    target=Format.EDGETPU_TFLITE,
    options=EdgeTpuOptions,
    tools=("ai-edge-litert",),
    programs=(("compiler_sha256", PROGRAM),),
    spawns=True,
    timeout_s=1800.0,
    share="compile-edgetpu-tflite-share",
    alone=("num_segments", "intermediate_tensors"),
)
def run(given: StageInput) -> StageOutput:
    """Compile, read the result back, and tell both what was predicted and what came.

    Args:
        given: files["model"], and further ones (`beside-1` …) that are compiled together with it to share the memory.
    Returns: model_edgetpu.tflite, or a folder of segments in the order in which they run, as "model"; each further one
        under its own role; facts["edgetpu"] with mapping, memory and the compiler, and of several models with each
        one's under `models`, by its role. The contract is that of "model".

    Raises:
        BadRequest: options that can't be, or a tensor that the model does not have.
        ConversionFailed: the compiler would refuse the model, refuses it, or maps nothing, or the files of several
            models do not share the memory.
        EnvironmentMissing: no usable compiler on this host; the evidence holds the predicted mapping.
        ToolCrashed, ToolTimedOut, ArtifactBroken: what can befall the compiler.
    """
    options: EdgeTpuOptions = given.options
    flags = _flags(options)
    models = _models(given, flags)
    predicted = [predict(model.read_bytes(), min_runtime_version=options.min_runtime_version) for model in models]
    _refuse(predicted, options)
    folder = given.work / "compiled"
    folder.mkdir()
    try:
        compiler = find_compiler(options.compiler)
        _check_planned(compiler, options)
        made = compile_models(compiler, models, folder, flags)
    except EnvironmentMissing as missing:
        missing.evidence["edgetpu"] = _predicted(predicted, options)
        raise
    print(made.output, flush=True)
    parts = read_made(made.files, version=compiler.version)
    need_mapped(parts, made.report, version=compiler.version)
    need_shared({_name(place, options): part for place, part in enumerate(parts) if len(models) > 1}, compiler)
    return StageOutput(
        files=_files(models, made, folder),
        facts={"edgetpu": _facts(compiler, made, parts, models) | {"prediction": _predicted(predicted, options)}},
        contract=_contract(given, models[0], made),
        reproduce=shlex.join(command(compiler, [Path(model.name) for model in models], Path(), flags)),
    )


def _refuse(predicted: Sequence[Prediction], options: EdgeTpuOptions) -> None:
    """Raise for what the compiler would refuse: of several models it then would compile none.

    Raises:
        ConversionFailed: one message for all such models, each named with its operator.
    """
    refused = {place: one.refusal for place, one in enumerate(predicted) if one.refusal is not None}
    if not refused:
        return
    ways = dict.fromkeys(_way_out(refusal, options) for refusal in refused.values())
    if len(predicted) == 1:
        told, rest = f"the model: {refused[0]}", ""
    else:
        told = "; ".join(f"{_name(place, options)}: {refusal}" for place, refusal in refused.items())
        rest = f" None of {len(predicted)} models is compiled together then; each is by itself."
    raise ConversionFailed(
        f"{PROGRAM} was not called, for it would refuse {told}.{rest}",
        remedy=" ".join((*ways, *(["Or leave those models out."] if rest else []))),
        edgetpu=_predicted(predicted, options),
    )


def _predicted(predicted: Sequence[Prediction], options: EdgeTpuOptions) -> dict[str, Any]:
    """Tell a model's prediction, or each of several, predicted as if it had the memory for itself."""
    if len(predicted) == 1:
        return predicted[0].as_facts()
    models = [{"model": _name(place, options)} | one.as_facts() for place, one in enumerate(predicted)]
    return {"predicted": True, "models": models}


def _name(place: int, options: EdgeTpuOptions) -> str:
    """Call a model by its name in the job, and by its role where the step was told none."""
    return options.together[place] if place < len(options.together) else role_of(place)


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
    roles = [role_of(place) for place in range(len(given.files))]
    if len(roles) > 1 and (flags.num_segments > 1 or flags.intermediate_tensors):
        raise BadRequest(
            "Models that are compiled together can't be split: leave num_segments and intermediate_tensors out."
        )
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
    parts = [path for path in made.files if path.name.startswith(model.stem)]
    return bound(given, model, parts)


def _facts(compiler: Compiler, made: Compilation, parts: Sequence[Compiled], models: Sequence[Path]) -> dict[str, Any]:
    operators = [{"type": row.type, "count": row.count, "status": row.status} for row in made.report.operators]
    roles = {model.stem: part for model, part in zip(models, parts, strict=False)}
    return {
        **compiled_facts(parts),
        "compiler": compiler.as_facts(),
        "report": made.as_facts(),
        "operators": operators,
        "disagreement": disagreement(parts, made.report),
        **({"models": facts_of_each(compiler, made, roles)} if len(models) > 1 else {}),
    }
