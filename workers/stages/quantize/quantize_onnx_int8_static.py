"""Quantize an ONNX model to static int8 for ONNX Runtime: QDQ form, per channel, float input and output.

Tool: onnxruntime.quantization.quantize_static, onnxruntime 1.32.0, after workers/stages/quantize/onnx_preparation.py.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the
calibration, and a fifth more of an output.
Limits: activations are uint8 and weights int8 (the fast kernels of x86 and ARM). x86 CPUs without VNNI add pairs of
products in 16 bits, which saturate: for them weights keep 7 bits, but in depthwise convolutions. Ranges are spanned
(MinMax) or averaged, and cut (Percentile, Entropy) where that is asked for: when such a method fails or is further off,
it gives way to MinMax. Recurrent layers stay in float.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.onnx_preparation import prepare
from workers.stages.quantize.onnx_static import PRELOAD, OnnxStaticOptions, Way, repeated, ways, write
from workers.stages.quantize.selection import SATURATION, Candidate, Judge, Samples, choose, saturates, split_samples


@stage(
    name="quantize-onnx-int8-static",
    version="6",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    inputs=("calibration",),
    recipe="int8-static",
    options=OnnxStaticOptions,
    reads=SATURATION,
    tools=("onnxruntime", "onnx"),
    preload=PRELOAD,
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx; facts["sqnr_db"] is the worst output's against the float model, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        BadRequest: an unknown calibration method.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    wanted = ways(given.options.calibration_method, narrow=saturates(given.profile))
    samples = split_samples(given)
    prepared = prepare(given)
    judge = Judge(given, Format.ONNX, samples.selection)
    chosen = choose(judge, [Candidate(way.name, _writer(prepared, samples, way)) for way in wanted])
    return chosen.output(repeated(given, next(way for way in wanted if way.name == chosen.name)))


def _writer(prepared: Path, samples: Samples, way: Way) -> Callable[[Path], None]:
    return lambda path: write(prepared, path, samples.calibration, way)
