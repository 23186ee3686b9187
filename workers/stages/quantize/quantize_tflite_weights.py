"""Store a TFLite model's weights in float16, 8 or 4 bits; activations keep float32 in the file, no data is needed.

Tool: ai-edge-quantizer 0.10.0 (float_casting, dynamic_wi8_afp32, dynamic_wi4_afp32), judged with ai-edge-litert 2.3.0.
Document: https://github.com/google-ai-edge/ai-edge-quantizer
Formula, float16: w16 = float16(w); LiteRT turns it back into float32 when it loads the model.
Formula, int8-dynamic: w8 = round(w / s_c), s_c = max|w_c| / 127; at run time x8 = round(x / s) + z per row.
Formula, int4-weights: w4 = round(w / s), s = max|w| / 7 of an output channel, or of 32 weights of it where that is not
near enough and their number divides.
Limits: LiteRT's BATCH_MATMUL reads per-channel weights as zeros without a word, so its weights are per tensor. 4 bits
are for fully connected layers: models without matrix products are refused. A weight beyond 65504 becomes infinite in
float16, and the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm.domain.facts import Format, ModelFacts
from farm.domain.recipe import RECIPES
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.quantize.litert_quantizer import (
    EVERY,
    MATMUL,
    PRELOAD,
    TOOLS,
    WEIGHTED,
    Way,
    Weights,
    best_of,
    repeated,
)
from workers.stages.quantize.products import needs_products

FLOAT16 = (Weights("float16 weights", (*WEIGHTED, "EMBEDDING_LOOKUP"), 16),)
DYNAMIC = (
    Weights("every weighted operator, activations at run time", (*EVERY, MATMUL), 8),
    Weights("weights alone", (*EVERY, MATMUL), 8, unpacked=True),
)
PRODUCTS = ("FULLY_CONNECTED",)
FOUR_BITS = (
    Weights("per channel, activations at run time", PRODUCTS, 4),
    Weights("per 32 weights, activations at run time", PRODUCTS, 4, group=32),
    Weights("per channel, weights alone", (*PRODUCTS, MATMUL), 4, unpacked=True),
)


def check_four_bits(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return needs_products(facts, "int4-weights", "LiteRT")


def quantize_weights(given: StageInput, recipe: str, ways: Sequence[Way]) -> StageOutput:
    """Write model.tflite by the first way that reaches the recipe's SQNR on seeded inputs, else by the nearest.

    Raises:
        ConversionFailed: no way gave a file that loads, runs and stays finite.
    """
    chosen = best_of(given, ways, enough_db=RECIPES[recipe].degraded_below_db)
    return chosen.output(repeated(given, ways, chosen))


@stage(
    name="quantize-tflite-float16",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    recipe="float16",
    tools=TOOLS,
    preload=PRELOAD,
)
def quantize_to_float16(given: StageInput) -> StageOutput:
    return quantize_weights(given, "float16", FLOAT16)


@stage(
    name="quantize-tflite-int8-dynamic",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    recipe="int8-dynamic",
    tools=TOOLS,
    preload=PRELOAD,
)
def quantize_dynamic(given: StageInput) -> StageOutput:
    return quantize_weights(given, "int8-dynamic", DYNAMIC)


@stage(
    name="quantize-tflite-int4-weights",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    recipe="int4-weights",
    check=check_four_bits,
    tools=TOOLS,
    preload=PRELOAD,
)
def quantize_to_four_bits(given: StageInput) -> StageOutput:
    return quantize_weights(given, "int4-weights", FOUR_BITS)
