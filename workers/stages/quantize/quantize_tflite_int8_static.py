"""Quantize a float TFLite model to static int8 for LiteRT: per channel, float input and output.

Tool: ai-edge-quantizer 0.10.0, weights int8 per channel and activations int8 (static_wi8_ai8), calibrated with
ai-edge-litert 2.3.0. Document: https://github.com/google-ai-edge/ai-edge-quantizer
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration.
Limits: LiteRT's BATCH_MATMUL reads per-channel weights as zeros without a word, so its weights are per tensor.
Quantized DIV fails at run time where a divisor rounds to zero; then, and where it is nearer, only convolutions and
matrix products are quantized.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.selection import CalibratedOptions, Candidate, Samples, choose, split_samples
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call

EVERY = ("ALL_SUPPORTED",)
MATMUL = "BATCH_MATMUL"
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_2D_TRANSPOSE")


@dataclass(frozen=True, slots=True)
class Way:
    """Which operators are quantized, and whether ranges are averaged over samples (outliers are cut) or spanned.

    `integer_io` makes integers of inputs and outputs too.
    """

    name: str
    operators: tuple[str, ...]
    averaged: bool
    integer_io: bool = False


WAYS = (
    Way("every operator", EVERY, averaged=False),
    Way("every operator, moving average", EVERY, averaged=True),
    Way("weighted operators", WEIGHTED, averaged=False),
    Way("weighted operators, moving average", WEIGHTED, averaged=True),
)


@stage(
    name="quantize-tflite-int8-static",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-static",
    tools=("ai-edge-quantizer", "ai-edge-litert"),
    preload=("ai_edge_litert.interpreter", "ai_edge_quantizer.quantizer", "ai_edge_quantizer.calibrator"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite; facts["sqnr_db"] is the worst output's against the float model, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    samples = split_samples(given)
    model = given.files["model"]
    candidates = [Candidate(way.name, _writer(model, samples, way)) for way in WAYS]
    chosen = choose(given, Format.TFLITE, samples, candidates)
    return StageOutput(
        files={"model": chosen.path},
        facts={"sqnr_db": round(chosen.sqnr_db, 2), "quantization": chosen.name, "tried": chosen.tried},
        contract=chosen.contract,
        reproduce=_reproduce(next(way for way in WAYS if way.name == chosen.name)),
    )


def recipe(way: Way) -> Any:
    """Return the tool's manager of a recipe for these operators."""
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    for name in way.operators:
        manager.add_static_config(".*", qtyping.TFLOperationName[name], activation_num_bits=8, weight_num_bits=8)
    per_tensor = qtyping.QuantGranularity.TENSORWISE
    manager.add_static_config(".*", qtyping.TFLOperationName[MATMUL], 8, 8, weight_granularity=per_tensor)
    for name in () if way.integer_io else ("INPUT", "OUTPUT"):
        manager.add_quantization_config(".*", qtyping.TFLOperationName[name], algorithm_key="no_quantize")
    return manager


def quantize(model: Path, path: Path, signature: str | None, rows: list[Feeds], way: Way) -> None:
    """Write `path`; each row goes by the signature's input names.

    The tool's own calibrate() only averages, which cuts off rare large values; its calibrator can also span them.
    """
    from ai_edge_quantizer import calibrator, quantizer
    from ai_edge_quantizer.utils import qsv_utils

    manager = recipe(way)
    update = qsv_utils.moving_average_update if way.averaged else qsv_utils.min_max_update
    ranges = calibrator.Calibrator(str(model), num_threads=1, qsv_update_func=update)
    ranges.calibrate({signature: rows}, manager)
    tool = quantizer.Quantizer(str(model), manager.get_quantization_recipe())
    tool.quantize(ranges.get_model_qsvs()).export_model(str(path), overwrite=True)


def _writer(model: Path, samples: Samples, way: Way) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with tool_call("ai-edge-quantizer"):
            signature, names = signature_of(model)
            rows = [{names[name]: array for name, array in feed.items()} for feed in samples.calibration]
            quantize(model, path, signature, rows, way)

    return write


def signature_of(model: Path) -> tuple[str | None, dict[str, str]]:
    """Return the signature's key, and its name for each input tensor."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    signatures = interpreter.get_signature_list()
    if not signatures:
        return None, {detail["name"]: detail["name"] for detail in interpreter.get_input_details()}
    key = next(iter(signatures))
    details = interpreter.get_signature_runner(key).get_input_details()
    return key, {detail["name"]: name for name, detail in details.items()}


def _reproduce(way: Way) -> str:
    """Repeat the call on a model and calibration.npz, whose arrays are named as the signature's inputs."""
    return python_command(
        "import numpy",
        "from pathlib import Path",
        "from workers.stages.quantize.quantize_tflite_int8_static import Way, quantize",
        "arrays = numpy.load('calibration.npz')",
        "rows = [dict(zip(arrays.files, row)) for row in zip(*(arrays[name] for name in arrays.files))]",
        f"quantize(Path('model.tflite'), Path('int8.tflite'), 'serving_default', rows, {way!r})",
    )
