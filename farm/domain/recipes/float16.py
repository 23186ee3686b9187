"""Half the size; faster only where the hardware computes in float16."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="float16",
    summary="Store weights in float16.",
    formula="w16 = round-to-nearest-even(w), 11 significant bits",
    refused_when="never in ONNX and OpenVINO; in TFLite, when a weight is beyond 65504",
    weights_dtype="float16",
    degraded_below_db=40.0,
    place=1,
)
