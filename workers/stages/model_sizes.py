"""Sizes that no tool gets past: a protobuf and a flatbuffer hold under 2 GiB."""

from __future__ import annotations

from farm.domain.facts import ModelFacts
from farm.domain.stage import Verdict

MAX_MODEL_BYTES = (2 << 30) - 1


def refused_size(facts: ModelFacts, holder: str, way_out: str) -> Verdict:
    """Refuse a model over `MAX_MODEL_BYTES`, which `holder`, such as "an ORT-format file", can't take."""
    if facts.size_bytes is not None and facts.size_bytes > MAX_MODEL_BYTES:
        return Verdict.no(
            f"The model has {facts.size_bytes} bytes; {holder} holds {MAX_MODEL_BYTES} at most. {way_out}"
        )
    return Verdict.yes()
