"""For matrix products whose activations vary; convolutions are mostly slower with it."""

from farm.domain.recipe import Recipe

RECIPE = Recipe(
    name="int8-dynamic",
    summary="Weights in int8, activations scaled at run time.",
    formula="w8 = round(w / s), s = max|w| / 127; x8 likewise, at each call",
    refused_when="the model has no matrix product (ONNX: or LSTM; TFLite: or convolution) with constant weights",
    weights_dtype="int8",
    degraded_below_db=20.0,
    place=3,
)
