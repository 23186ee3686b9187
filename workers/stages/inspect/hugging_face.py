"""Inspect a Hugging Face folder: config.json and weights, through transformers' own classes, offline.

Tested with transformers 5.23.0, safetensors 0.8.0, torch 2.13.0.
Source: transformers, PretrainedConfig and ModelOutput.
Limits: weights over 1 GiB are only counted here; the model's outputs are then told by its export.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.stage import Kind as StageKind
from farm.domain.stage import StageInput, StageOutput, stage
from workers.runtimes.files import tree_size_bytes
from workers.runtimes.hugging_face import Kind, load_folder, read_kind
from workers.runtimes.torch_modules import ModuleSession
from workers.stages.inspect.module_outputs import leaf_modules, observed_outputs

LOADED_BYTES = 1 << 30
"""Weights up to this size are loaded and the model is run once, so that what does not fit is told at once."""
_SMALL = {"batch": 1, "sequence": 8, "decoder_sequence": 6, "samples": 4000, "frames": 3000}
_LARGER = {"batch": 2, "sequence": 12, "decoder_sequence": 9, "samples": 6000, "frames": 3000}


@stage(
    name="inspect-hugging-face",
    version="2",
    kind=StageKind.INSPECT,
    source=Format.HUGGING_FACE,
    environment="builder",
    tools=("transformers", "torch", "safetensors"),
    preload=("torch", "transformers", "safetensors.torch"),
    timeout_s=300.0,
)
def run(given: StageInput) -> StageOutput:
    """Read the folder, and run the model at small sizes where that is cheap.

    Returns: facts, the JSON of ModelFacts; operators are the model's leaf classes, `extra` has the type, the class and
        the range of token ids.
    Raises: MissingFile, UnsafeModel, UnknownFormat, Incompatible, CorruptModel; BadRequest for weights that do not fit.
    """
    path = given.files["model"]
    kind = read_kind(path)
    stored = _stored(kind)
    unused: tuple[str, ...] = ()
    if kind.folder.weights_bytes <= LOADED_BYTES:
        session, kind, unused = load_folder(path)
        module, outputs = session.module, _outputs(session)
    else:
        module, outputs = _without_weights(kind), ()
    facts = ModelFacts(
        format=Format.HUGGING_FACE,
        inputs=kind.inputs,
        outputs=outputs,
        operators=leaf_modules(module),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        size_bytes=tree_size_bytes(path),
        producer="transformers",
        extra={
            "model_type": kind.config.model_type,
            "architecture": kind.model.__name__,
            "weights": [file.name for file in kind.folder.weights],
            "stored_dtypes": stored,
            "unused_weights": list(unused[:20]),
            "ranges": kind.ranges,
        },
    )
    return StageOutput(facts=encode(facts))


def _outputs(session: ModuleSession) -> tuple[TensorSpec, ...]:
    """Run the model; one whose configuration lets no small input in has outputs that only --input tells."""
    try:
        return observed_outputs(session.run, session.inputs, small=_SMALL, larger=_LARGER)
    except (RuntimeError, ValueError, TypeError, LookupError):
        return ()


def _without_weights(kind: Kind) -> Any:
    """Make the module of shapes alone."""
    import torch

    with torch.device("meta"):
        return kind.model(kind.config)


def _stored(kind: Kind) -> dict[str, int]:
    """Count the stored elements by dtype, from the headers of safetensors; nothing of a pickle.

    Raises:
        CorruptModel: a header, or a file shorter than its header says.
    """
    found: dict[str, int] = {}
    for file in kind.folder.weights if not kind.folder.is_pickle else ():
        for dtype, elements in _header(file):
            found[dtype] = found.get(dtype, 0) + elements
    return found


def _header(file: Path) -> Iterator[tuple[str, int]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            for name in opened.keys():  # noqa: SIM118
                tensor = opened.get_slice(name)
                yield tensor.get_dtype(), math.prod(tensor.get_shape())
    except SafetensorError as exc:
        raise CorruptModel(
            f"{file.name} is no complete safetensors file: {exc}",
            remedy="Save the folder again with model.save_pretrained(folder), and check that the copy is complete.",
        ) from exc
