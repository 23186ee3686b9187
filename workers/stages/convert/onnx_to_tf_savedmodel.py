"""Convert ONNX to a SavedModel through a torch module: onnx2torch, then StableHLO.

Tools: onnxslim 0.1.98, onnx2torch 1.5.15 (https://github.com/ENOT-AutoDL/onnx2torch), litert-torch 0.10.0, then those
of workers/stages/saved_models.py.
Limits: those of onnx-to-tflite-via-torch and of torch-exported-program-to-tf-savedmodel. onnx2tf's own SavedModels need
tensorflow and tf_keras, which its environment does without.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.convert.onnx_operators import refused_operators
from workers.stages.convert.onnx_to_tflite_via_torch import NEEDS_TORCHVISION, UNKNOWN, torch_module
from workers.stages.onnx_files import named_in_commands
from workers.stages.samples import Ranges
from workers.stages.saved_models import LOWER_PRELOAD, LOWER_TOOLS, save_module, signature_names
from workers.stages.tool_calls import python_command, python_specs
from workers.stages.transforms import interface, proven, ranges_of


def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return refused_operators(facts, "onnx2torch", NEEDS_TORCHVISION | UNKNOWN, form="SavedModel")


@stage(
    name="onnx-to-tf-savedmodel",
    version="3",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.ONNX,
    target=Format.TF_SAVEDMODEL,
    tools=(*LOWER_TOOLS, "onnx2torch", "onnxslim", "onnx"),
    preload=(*LOWER_PRELOAD, "onnx", "onnxruntime"),
    cost=25,
)
def run(given: StageInput) -> StageOutput:
    """Write a SavedModel whose signature has the ONNX file's names, as far as Python allows them.

    Raises:
        ConversionFailed: an operator that either tool does not know.
        NumericsBroken: the SavedModel does not compute the model's function.
    """
    inputs, outputs = interface(given)
    folder = given.work / "model"
    convert(given.files["model"], inputs, outputs, folder, ranges=ranges_of(given))
    return proven(
        given,
        folder,
        source=Format.ONNX,
        target=Format.TF_SAVEDMODEL,
        inputs_as=signature_names([spec.name for spec in inputs]),
        reproduce=python_command(
            "from pathlib import Path",
            "from farm.domain.facts import TensorSpec",
            "from workers.stages.convert.onnx_to_tf_savedmodel import convert",
            f"convert(Path({named_in_commands(given.files['model'])!r}), {python_specs(inputs)}, {outputs!r}, "
            "Path('saved_model'), "
            f"ranges={ranges_of(given)!r})",
        ),
    )


def convert(
    source: Path, inputs: tuple[TensorSpec, ...], outputs: list[str], folder: Path, *, ranges: Ranges | None = None
) -> None:
    """Write `folder` from the ONNX file `source`, whose axes are fixed as `inputs` say."""
    save_module(torch_module(source, inputs, ranges), inputs, outputs, folder, ranges=ranges)
