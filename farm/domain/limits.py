"""What a target's profile bounds: models it does not take, and memory a process may have there."""

from __future__ import annotations

from farm.domain.catalogue import Target
from farm.domain.errors import TooLarge
from farm.domain.recipe import RECIPES
from farm.domain.wanted import Submitted

WEIGHT_BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}
SHRINKING = "sparse-structured"
"""Recipes that take whole channels away: nobody knows before how many bytes are left."""


def least_bytes(model: Submitted, recipe: str) -> int:
    """Tell how many bytes the weights of a model need at least by a recipe, whatever file they come in.

    A submitted file may hold more (an optimizer's state) or less (halves or integers already) than its parameters in
    float32; a recipe that computes in integers may keep some of them in float.
    """
    each = WEIGHT_BYTES[RECIPES[recipe].weights_dtype]
    whole = model.artifact.size_bytes
    parameters = model.facts.parameters if model.facts else None
    return int(whole * each / WEIGHT_BYTES["float32"]) if parameters is None else min(whole, int(parameters * each))


def too_large(model: Submitted, target: Target, recipe: str) -> TooLarge | None:
    """Say that a model is over the largest one that a target takes; None when it is not."""
    limit, least = target.read("limits.max_model_bytes"), least_bytes(model, recipe)
    if limit is None or least <= limit or recipe.startswith(SHRINKING):
        return None
    return TooLarge(
        f"{model.name} holds {least / 1e6:,.1f} MB of weights at least by recipe {recipe}; "
        f"target {target.name} takes models up to {limit / 1e6:,.0f} MB.",
        remedy="Choose another target, a recipe with smaller weights (int8-…, int4-weights), or a smaller model.",
    )


def process_bytes(target: Target | None, wanted: int) -> int:
    """Narrow a step's memory to what a process may have on its target."""
    limit = target.read("limits.max_process_bytes") if target else None
    return wanted if limit is None else min(wanted, int(limit))
