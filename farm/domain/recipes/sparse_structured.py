"""Fewer channels: smaller and really faster, where the loss can be recovered."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="sparse-structured",
    summary="Remove whole channels, then recover by distillation from the original on the calibration data.",
    formula="channels with the smallest L2 norm go; then minimize |student(x) - original(x)|^2",
    refused_when="there is no calibration data, the source is no weights with a builder, or no channel can go",
    degraded_below_db=20.0,
    needs_calibration=True,
    stays_float=True,
)
