"""Quantize a float TFLite model to static int8 for LiteRT: per channel, float input and output.

Tool: ai-edge-quantizer 0.10.0, weights int8 per channel and activations int8 (static_wi8_ai8), calibrated with
ai-edge-litert 2.3.0. Document: https://github.com/google-ai-edge/ai-edge-quantizer
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration,
and a fifth more of an output.
Limits: LiteRT's BATCH_MATMUL reads per-channel weights as zeros without a word, so its weights are per tensor.
Quantized DIV fails at run time where a divisor rounds to zero; then, and where it is nearer, only convolutions and
matrix products are quantized; where an output is also read inside of the model, the operators around it stay in float.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.litert_quantizer import EVERY, PRELOAD, TOOLS, WEIGHTED, Static, best_of, repeated
from workers.stages.quantize.selection import CalibratedOptions, split_samples

WAYS = (
    Static("every operator", EVERY),
    Static("every operator, moving average", EVERY, averaged=True),
    Static("weighted operators", WEIGHTED),
    Static("weighted operators, moving average", WEIGHTED, averaged=True),
    Static("every operator but those at the outputs", EVERY, float_ends=True),
)


@stage(
    name="quantize-tflite-int8-static",
    version="5",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-static",
    tools=TOOLS,
    preload=PRELOAD,
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite; facts["sqnr_db"] is the worst output's against the float model, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    chosen = best_of(given, WAYS, samples=split_samples(given))
    return chosen.output(repeated(given, WAYS, chosen))
