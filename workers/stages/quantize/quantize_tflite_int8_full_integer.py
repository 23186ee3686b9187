"""Quantize a float TFLite model to int8 throughout, inputs and outputs too: what the Edge TPU compiler reads.

Tool: ai-edge-quantizer 0.10.0, weights int8 per channel and activations int8 (static_wi8_ai8), calibrated with
ai-edge-litert 2.3.0. Document: https://github.com/google-ai-edge/ai-edge-quantizer
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration.
Limits: one operator without an integer kernel refuses the model. Operators keep the versions of the float file, so one
that a newer converter wrote may still be too new for the Edge TPU compiler: `edgetpu_predicted` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.full_integer import edge_tpu_facts, refuse_floats
from workers.stages.quantize.quantize_tflite_int8_static import EVERY, Way, quantize, signature_of
from workers.stages.quantize.selection import CalibratedOptions, Candidate, Samples, choose, split_samples
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract

WAYS = (
    Way("every operator", EVERY, averaged=False, integer_io=True),
    Way("every operator, moving average", EVERY, averaged=True, integer_io=True),
)


@stage(
    name="quantize-tflite-int8-full-integer",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-full-integer",
    tools=("ai-edge-quantizer", "ai-edge-litert"),
    preload=("ai_edge_litert.interpreter", "ai_edge_quantizer.quantizer", "ai_edge_quantizer.calibrator"),
    cost=20,
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite; the contract carries scale and zero point of each input and output.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        ConversionFailed: an operator stays in floating point, or no way gave a file that loads and runs.
    """
    samples = split_samples(given)
    candidates = [Candidate(way.name, _writer(given.files["model"], samples, way)) for way in WAYS]
    names = {binding.artifact.name: binding.artifact.name for binding in given_contract(given).inputs}
    chosen = choose(given, Format.TFLITE, samples, candidates, known_as=names)
    way = next(way for way in WAYS if way.name == chosen.name)
    facts = {"sqnr_db": round(chosen.sqnr_db, 2), "quantization": chosen.name, "tried": chosen.tried}
    return StageOutput(
        files={"model": chosen.path},
        facts={**facts, **edge_tpu_facts(chosen.path)},
        contract=chosen.contract,
        reproduce=python_command(
            "import numpy",
            "from pathlib import Path",
            "from workers.stages.quantize.quantize_tflite_int8_static import Way, quantize",
            "arrays = numpy.load('calibration.npz')",
            "rows = [dict(zip(arrays.files, row)) for row in zip(*(arrays[name] for name in arrays.files))]",
            f"quantize(Path('model.tflite'), Path('int8.tflite'), 'serving_default', rows, {way!r})",
        ),
    )


def _writer(model: Path, samples: Samples, way: Way) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tool_call("ai-edge-quantizer"):
            signature, names = signature_of(model)
            rows = [{names[name]: array for name, array in feed.items()} for feed in samples.calibration]
            quantize(model, path, signature, rows, way)
        refuse_floats(path, "ai-edge-quantizer")

    return write
