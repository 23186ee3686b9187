"""When int8 everywhere loses too much."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="int8-mixed",
    summary="int8-static, with as few of the most sensitive operators in float as the accuracy allows.",
    formula="as int8-static; operators ranked by the SQNR (dB) each costs alone, the first k stay in float",
    refused_when="there is no calibration data, or an operator that is to stay in float is unknown",
    weights_dtype="int8",
    activations_dtype="int8",
    degraded_below_db=20.0,
    needs_calibration=True,
    place=4,
)
