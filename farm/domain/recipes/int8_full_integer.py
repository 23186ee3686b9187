"""For accelerators without floating point, such as the Edge TPU."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="int8-full-integer",
    summary="int8 throughout, integer input and output.",
    formula="q = clamp(round(x / s) + z), s = (max - min) / 255 over the calibration; weights per channel",
    refused_when="there is no calibration data, or an operator has no integer form",
    weights_dtype="int8",
    activations_dtype="int8",
    degraded_below_db=20.0,
    needs_calibration=True,
)
