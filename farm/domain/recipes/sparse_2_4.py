"""The pattern that some accelerators use; CPUs do not."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="sparse-2-4",
    summary="Of every four weights in a row, set the two smallest to zero.",
    formula="w = 0 for the two smallest |w| of each four along the input channels",
    refused_when="the model has no convolution or matrix product",
    degraded_below_db=20.0,
    note="It brings no speed on CPUs: only the compressed file is smaller.",
)
