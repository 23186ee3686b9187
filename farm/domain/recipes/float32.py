"""What every other recipe is held against."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="float32",
    summary="Keep weights and activations in float32.",
    formula="y = x",
    refused_when="never",
    degraded_below_db=60.0,
    failed_below_db=30.0,
    place=0,
)
