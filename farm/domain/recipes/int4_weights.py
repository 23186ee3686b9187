"""For large matrix products, where memory traffic is what costs."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="int4-weights",
    summary="Weights of matrix products in 4 bits.",
    formula="w4 = clamp(round(w / s) + z, 0, 15), s = (max - min) / 15 of a group (TFLite: s = max|w| / 7, z = 0)",
    refused_when="the model has no matrix product with constant weights",
    weights_dtype="int4",
    degraded_below_db=20.0,
    place=5,
)
