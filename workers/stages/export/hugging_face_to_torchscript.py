"""Trace a Hugging Face folder to TorchScript: the second way, for models that torch.export refuses.

Tool: torch.jit.trace over transformers' own class; torch 2.13.0, transformers 5.23.0.
Document: https://docs.pytorch.org/docs/stable/generated/torch.jit.trace.html
Limits: every axis is fixed; float32; a branch that depends on values is frozen as it ran; the tool is in maintenance.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.hugging_face import load_folder
from workers.stages.export.modules import HUGGING_FACE_LINES, SCRIPT_PRELOAD, trace_module


@stage(
    name="hugging-face-to-torchscript",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.HUGGING_FACE,
    target=Format.TORCHSCRIPT,
    tools=("transformers", "torch", "safetensors"),
    preload=(*SCRIPT_PRELOAD, "transformers", "safetensors.torch"),
    cost=20,
)
def run(given: StageInput) -> StageOutput:
    """Write model.pt.

    Raises:
        BadRequest: weights that do not fit the class that config.json names.
        ConversionFailed: torch.jit does not trace the model.
        NumericsBroken: the trace does not compute the model's function.
    """
    session = load_folder(given.files["model"])[0]
    return trace_module(given, session, Format.HUGGING_FACE, lines=HUGGING_FACE_LINES)
