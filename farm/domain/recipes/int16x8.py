"""For models whose activations have a wide range."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="int16x8",
    summary="Weights in int8, activations in int16.",
    formula="x16 = clamp(round(x / s)), s = max|x| / 32767 over the calibration; weights as int8-static",
    refused_when="there is no calibration data, or an operator has no 16-bit kernel",
    weights_dtype="int8",
    activations_dtype="int16",
    degraded_below_db=20.0,
    needs_calibration=True,
    note="Most CPUs run it on reference kernels, far slower than float.",
)
