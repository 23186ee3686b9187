"""Export a Hugging Face folder to an exported program that takes and returns plain tensors.

Tool: torch.export.export over transformers' own class; torch 2.13.0, transformers 5.23.0.
Document: https://huggingface.co/docs/transformers/main/en/model_doc/auto, https://docs.pytorch.org/docs/stable/export.html
Limits: every axis is fixed; float32. A decoder sees its whole sequence at each call, unless the folder asks for a
static cache: then one step is exported, with the cache of keys and values as inputs and outputs; facts tell its sizes.
"""

from __future__ import annotations

from dataclasses import replace

from farm.domain.codec import encode
from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.hugging_face import load_folder
from workers.stages.export.modules import HUGGING_FACE_LINES, PROGRAM_PRELOAD, export_program


@stage(
    name="hugging-face-to-torch-exported-program",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.HUGGING_FACE,
    target=Format.TORCH_EXPORTED_PROGRAM,
    tools=("transformers", "torch", "safetensors"),
    preload=(*PROGRAM_PRELOAD, "transformers", "safetensors.torch"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.pt2.

    Raises:
        BadRequest: weights that do not fit the class that config.json names.
        ConversionFailed: torch.export does not take the model.
        NumericsBroken: the program does not compute the model's function.
    """
    session, kind, _ = load_folder(given.files["model"])
    made = export_program(given, session, Format.HUGGING_FACE, lines=HUGGING_FACE_LINES)
    told = {"cache": encode(kind.cache)} if kind.cache else {}
    return replace(made, facts={**made.facts, **told})
