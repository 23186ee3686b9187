"""Sizes that no tool gets past: a protobuf and a flatbuffer hold under 2 GiB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.domain.facts import ModelFacts
from farm.domain.stage import Check, Verdict

MAX_MODEL_BYTES = (2 << 30) - 1


def refused_size(facts: ModelFacts, holder: str, way_out: str) -> Verdict:
    """Refuse a model over `MAX_MODEL_BYTES`, which `holder`, such as "an ORT-format file", can't take."""
    if facts.size_bytes is not None and facts.size_bytes > MAX_MODEL_BYTES:
        return Verdict.no(
            f"The model has {facts.size_bytes} bytes; {holder} holds {MAX_MODEL_BYTES} at most. {way_out}"
        )
    return Verdict.yes()


def fits(holder: str, way_out: str) -> Check:
    """Return the check of a stage whose model has to go into `holder`, as for `refused_size`."""

    def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
        return refused_size(facts, holder, way_out)

    return check


INTO_TFLITE = fits(
    "a TFLite file",
    "Quantize its weights first, or choose onnxruntime or openvino, whose weights lie beside the model.",
)
INTO_FROZEN_GRAPH = fits(
    "the one protobuf into which TensorFlow freezes a function", "Submit the model as ONNX with its external data."
)
"""Of everything that goes on from `workers/stages/convert/tensorflow_models.py`'s frozen function."""
INTO_ONE_ONNX_FILE = fits(
    "the one ONNX file that this tool writes", "Submit it as an exported program (.pt2) or as ONNX with external data."
)
