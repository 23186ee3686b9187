"""The classic post-training quantization."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="int8-static",
    summary="Weights and activations in int8 by calibration; float input and output.",
    formula="q = clamp(round(x / s) + z), s = (max - min) / 255 over the calibration; weights per channel",
    refused_when="there is no calibration data",
    weights_dtype="int8",
    activations_dtype="int8",
    degraded_below_db=20.0,
    needs_calibration=True,
    place=2,
)
