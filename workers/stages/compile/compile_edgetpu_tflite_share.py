"""Take one model's file out of those that several were compiled to together for the Edge TPU.

Tool: none; it reads files of edgetpu_compiler 16.0.384591198. Document: https://coral.ai/docs/edgetpu/compiler
Limits: the compiled file runs on a device only, so that its function is proven on the target's host, by comparing.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from farm.domain.errors import ConversionFailed
from farm.domain.facts import Format
from farm.domain.routes import COMPILED
from farm.domain.stage import Kind, Options, StageInput, StageOutput, stage
from workers.edgetpu.limits import DEFAULT_MIN_RUNTIME_VERSION
from workers.edgetpu.predict import predict
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES
from workers.stages.compile.edgetpu_files import bound, compiled_facts, read_made


@dataclass(frozen=True, slots=True)
class ShareOptions(Options):
    """Which Edge TPU runtime the models were compiled for, so that the prediction beside the facts is for it too."""

    min_runtime_version: int = DEFAULT_MIN_RUNTIME_VERSION


@stage(
    name="compile-edgetpu-tflite-share",
    version="2",
    kind=Kind.COMPILE,
    environment="litert",
    source=Format.TFLITE,
    target=Format.EDGETPU_TFLITE,
    inputs=(COMPILED,),
    options=ShareOptions,
    tools=("ai-edge-litert",),
)
def run(given: StageInput) -> StageOutput:
    """Read one model's compiled file back, and bind it to that model.

    Args:
        given: files["model"], the integer model; files["compiled"], what it was compiled to beside others.
    Returns: model_edgetpu.tflite; facts["edgetpu"] with its own mapping and memory, and what was predicted of it alone.

    Raises:
        ArtifactBroken: the compiled file can't be read.
        ConversionFailed: nothing of this model was mapped.
        ContractMismatch: the compiled file is another model's.
    """
    model = entry_file(given.files["model"], SUFFIXES)
    compiled = entry_file(given.files[COMPILED], SUFFIXES)
    (part,) = read_made([compiled])
    predicted = predict(model.read_bytes(), min_runtime_version=given.options.min_runtime_version).as_facts()
    if part.edge_tpu_subgraphs == 0:
        raise ConversionFailed(
            f"Compiled together with others, no operator of the model was mapped to the Edge TPU; the "
            f"{len(part.cpu_operators)} it has stay on the CPU.",
            remedy="Compile it by itself, or put it before the others in the job.",
            edgetpu=predicted,
        )
    made = given.work / "model_edgetpu.tflite"
    shutil.copyfile(compiled, made)
    return StageOutput(
        files={"model": made},
        facts={"edgetpu": compiled_facts([part]) | {"prediction": predicted}},
        contract=bound(given, model, [made]),
    )
