"""Quantize a float TFLite model to static int8 for LiteRT: per channel, float input and output.

Tool: ai-edge-quantizer 0.10.0, weights int8 per channel and activations int8 (static_wi8_ai8), calibrated with
ai-edge-litert 2.3.0. Document: https://github.com/google-ai-edge/ai-edge-quantizer
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration.
Limits: LiteRT's BATCH_MATMUL reads per-channel weights as zeros without a word, so its weights are per tensor.
Quantized DIV fails at run time where a divisor rounds to zero; then, and where it is nearer, only convolutions and
matrix products are quantized.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.selection import Candidate, Samples, choose, split_samples
from workers.stages.tool_calls import python_command, tool_call

EVERY = ("ALL_SUPPORTED",)
MATMUL = "BATCH_MATMUL"
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_2D_TRANSPOSE")
WAYS = {"every operator": EVERY, "weighted operators": WEIGHTED}


@stage(
    name="quantize-tflite-int8-static",
    version="1",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TFLITE,
    target=Format.TFLITE,
    inputs=("calibration",),
    recipe="int8-static",
    tools=("ai-edge-quantizer", "ai-edge-litert"),
    preload=("ai_edge_litert.interpreter", "ai_edge_quantizer.quantizer", "ai_edge_quantizer.recipe_manager"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite; facts["sqnr_db"] is the worst output's against the float model, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    samples = split_samples(given)
    model = given.files["model"]
    candidates = [Candidate(name, _writer(model, samples, operators)) for name, operators in WAYS.items()]
    chosen = choose(given, Format.TFLITE, samples, candidates)
    return StageOutput(
        files={"model": chosen.path},
        facts={"sqnr_db": round(chosen.sqnr_db, 2), "quantization": chosen.name, "tried": chosen.tried},
        contract=chosen.contract,
        reproduce=_reproduce(WAYS[chosen.name]),
    )


def recipe(operators: tuple[str, ...]) -> Any:
    """Build the tool's recipe for these operators; inputs and outputs stay float."""
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    for name in operators:
        manager.add_static_config(".*", qtyping.TFLOperationName[name], activation_num_bits=8, weight_num_bits=8)
    per_tensor = qtyping.QuantGranularity.TENSORWISE
    manager.add_static_config(".*", qtyping.TFLOperationName[MATMUL], 8, 8, weight_granularity=per_tensor)
    for name in ("INPUT", "OUTPUT"):
        manager.add_quantization_config(".*", qtyping.TFLOperationName[name], algorithm_key="no_quantize")
    return manager.get_quantization_recipe()


def _writer(model: Path, samples: Samples, operators: tuple[str, ...]) -> Any:
    def write(path: Path) -> None:
        from ai_edge_quantizer import quantizer

        with tool_call("ai-edge-quantizer"):
            tool = quantizer.Quantizer(str(model), recipe(operators))
            signature, names = _signature(model)
            data = [{names[name]: array for name, array in feed.items()} for feed in samples.calibration]
            tool.quantize(tool.calibrate({signature: data})).export_model(str(path), overwrite=True)

    return write


def _signature(model: Path) -> tuple[str | None, dict[str, str]]:
    """Return the signature's key, and its name for each input tensor."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    signatures = interpreter.get_signature_list()
    if not signatures:
        return None, {detail["name"]: detail["name"] for detail in interpreter.get_input_details()}
    key = next(iter(signatures))
    details = interpreter.get_signature_runner(key).get_input_details()
    return key, {detail["name"]: name for name, detail in details.items()}


def _reproduce(operators: tuple[str, ...]) -> str:
    """Repeat the call on a model and calibration.npz, whose arrays are named as the signature's inputs."""
    return python_command(
        "import numpy, pathlib",
        "from ai_edge_quantizer import quantizer",
        "from workers.stages.quantize.quantize_tflite_int8_static import recipe",
        f"tool = quantizer.Quantizer('model.tflite', recipe({operators!r}))",
        "arrays = numpy.load('calibration.npz')",
        "rows = [dict(zip(arrays.files, row)) for row in zip(*(arrays[name] for name in arrays.files))]",
        "tool.quantize(tool.calibrate({'serving_default': rows})).export_model('int8.tflite')",
    )
