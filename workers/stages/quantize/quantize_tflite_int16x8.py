"""Quantize a float TFLite model to int8 weights and int16 activations for LiteRT; float input and output.

Tool: ai-edge-quantizer 0.10.0 (static_wi8_ai16), calibrated with ai-edge-litert 2.3.0.
Document: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_integer_quant_16x8
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x16 = round(x / s), s = max|x| / 32767 over the calibration.
Limits: XNNPACK has no kernels for it, so LiteRT runs its reference kernels, some 30 times slower than float32; it is
for accelerators that compute in this form. Operators without a 16-bit kernel stay in float.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.litert_quantizer import EVERY, PRELOAD, TOOLS, WEIGHTED, Static, best_of, repeated
from workers.stages.quantize.selection import CalibratedOptions, split_samples

WAYS = (
    Static("every operator", EVERY, activation_bits=16),
    Static("weighted operators", WEIGHTED, activation_bits=16),
    Static("every operator but those at the outputs", EVERY, activation_bits=16, float_ends=True),
)


@stage(
    name="quantize-tflite-int16x8",
    version="3",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int16x8",
    tools=TOOLS,
    preload=PRELOAD,
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite; facts["sqnr_db"] is the worst output's against the float model, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    enough = RECIPES["int16x8"].degraded_below_db
    chosen = best_of(given, WAYS, samples=split_samples(given), enough_db=enough)
    return chosen.output(repeated(given, WAYS, chosen))
