"""Quantize a float TFLite model to int8 throughout, inputs and outputs too: what the Edge TPU compiler reads.

Tool: ai-edge-quantizer 0.10.0, weights int8 per channel and activations int8 (static_wi8_ai8), calibrated with
ai-edge-litert 2.3.0. Document: https://github.com/google-ai-edge/ai-edge-quantizer
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration.
Limits: one operator without an integer kernel refuses the model. Operators keep the versions of the float file, so one
that a newer converter wrote may still be too new for the Edge TPU compiler: `edgetpu_predicted` says so.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.full_integer import edge_tpu_facts
from workers.stages.quantize.litert_quantizer import EVERY, PRELOAD, TOOLS, Static, best_of, repeated
from workers.stages.quantize.selection import CalibratedOptions, split_samples

WAYS = (
    Static("every operator", EVERY, integer_io=True),
    Static("every operator, moving average", EVERY, averaged=True, integer_io=True),
)


@stage(
    name="quantize-tflite-int8-full-integer",
    version="5",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-full-integer",
    tools=TOOLS,
    preload=PRELOAD,
    cost=20,
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite; the contract carries scale and zero point of each input and output.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        ConversionFailed: an operator stays in floating point, or no way gave a file that loads and runs.
    """
    chosen = best_of(given, WAYS, samples=split_samples(given), integers=True)
    return chosen.output(repeated(given, WAYS, chosen), **edge_tpu_facts(chosen.path))
