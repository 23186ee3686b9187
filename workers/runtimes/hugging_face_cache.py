"""One step of a decoder with its cache of keys and values as inputs and outputs, every axis fixed.

A folder asks for it by `"cache_implementation": "static"` in its generation_config.json; `max_length` there is how many
tokens the cache holds (256 without it). A step takes one token, and the last `max_length` of each layer's keys and
values; it returns logits and the same moved on by one, so that an application feeds `present.*` back as
`past_key_values.*`. attention_mask tells which places of the cache are filled: the last ones first.

Tested with transformers 5.23.0. Source: transformers, GenerationConfig, DynamicCache (cache_utils.py) and the names of
Optimum's ONNX export (past_key_values.N.key, present.N.value).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadRequest, CorruptModel
from farm.domain.facts import TensorSpec
from farm.domain.generation import IDS, MASK, PAST, POSITIONS, PRESENT

if TYPE_CHECKING:
    import torch

GENERATION = "generation_config.json"
DEFAULT_LENGTH = 256
LONGEST = 1 << 20
STATIC = "static"


@dataclass(frozen=True, slots=True)
class StaticCache:
    """Sizes of a decoder's cache: (1, heads, length, width) for the keys and for the values of each layer."""

    layers: int
    heads: int
    length: int
    width: int

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """List a step's inputs in the order of `step`."""
        places = (1, self.heads, self.length, self.width)
        return (
            TensorSpec(IDS, "int64", (1, 1)),
            TensorSpec(MASK, "int64", (1, self.length + 1)),
            TensorSpec(POSITIONS, "int64", (1, 1)),
            *(TensorSpec(name, "float32", places) for name in self.names(PAST)),
        )

    def names(self, stem: str) -> list[str]:
        return [f"{stem}.{layer}.{part}" for layer in range(self.layers) for part in ("key", "value")]

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {POSITIONS: (0.0, float(self.length - 1))}


def asked_cache(folder: Path, model: Any, config: Any) -> StaticCache | None:
    """Read the sizes of the cache that a folder asks for; None when it asks for none.

    Raises:
        CorruptModel: generation_config.json does not read.
        BadRequest: the model keeps no such cache, or its length does not fit.
    """
    file = folder / GENERATION
    if not file.is_file():
        return None
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise CorruptModel(f"{GENERATION} is no JSON: {str(exc)[:300]}") from exc
    if not isinstance(told, dict) or told.get("cache_implementation") != STATIC:
        return None
    text = config.get_text_config()
    heads, layers = getattr(text, "num_attention_heads", None), getattr(text, "num_hidden_layers", None)
    goes_by_token = model.__name__.endswith("ForCausalLM") or "LMHead" in model.__name__
    if config.is_encoder_decoder or not goes_by_token:
        raise BadRequest(
            f"{GENERATION} asks for a static cache, and {model.__name__} is no decoder that goes token by token.",
            remedy=f"Leave cache_implementation out of {GENERATION}.",
        )
    if not isinstance(heads, int) or not isinstance(layers, int):
        raise BadRequest(f"config.json does not say how many heads and layers {model.__name__} has.")
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    most = getattr(text, "max_position_embeddings", None) or LONGEST
    length = told.get("max_length") or min(DEFAULT_LENGTH, most)
    if not isinstance(length, int) or not 0 < length <= min(most, LONGEST):
        raise BadRequest(
            f"{GENERATION} asks for a cache of {length!r} tokens; the model has places for {most}.",
            remedy=f"Set max_length in {GENERATION} to a number from 1 to {most}.",
        )
    return StaticCache(layers, getattr(text, "num_key_value_heads", None) or heads, length, int(width))


class CachedStep:
    """Call a decoder of transformers for one token; give logits and the moved cache by name."""

    def __init__(self, module: Any, cache: StaticCache) -> None:
        self._module, self._cache = module, cache

    def __call__(self, *given: torch.Tensor) -> dict[str, torch.Tensor]:
        from transformers import DynamicCache

        ids, mask, positions, *past = given
        cache = DynamicCache()
        for layer in range(self._cache.layers):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        found = self._module(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        )
        moved = [part[:, :, 1:, :] for layer in cache.layers for part in (layer.keys, layer.values)]
        return {"logits": found.logits, **dict(zip(self._cache.names(PRESENT), moved, strict=True))}
