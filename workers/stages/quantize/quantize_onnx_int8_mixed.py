"""Quantize an ONNX model to static int8 for ONNX Runtime, with the most sensitive operators left in float.

Tool: onnxruntime.quantization.quantize_static with nodes_to_exclude, onnxruntime 1.32.0, after
workers/stages/quantize/onnx_preparation.py.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
Formula: as quantize-onnx-int8-static; the sensitivity of an operator is the SQNR (dB) of the model's worst output when
it alone is quantized, and the k lowest stay in float.
Limits: those of quantize-onnx-int8-static. The ranking takes a second or so for each convolution and matrix product, on
this host's CPU; what the budget leaves out stays in int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.mixed import MixedOptions, choose_mixed
from workers.stages.quantize.onnx_preparation import prepare
from workers.stages.quantize.onnx_static import PRELOAD, CalibrationName, Way, repeated, ways, weighted_nodes, write
from workers.stages.quantize.selection import SATURATION, saturates, split_samples
from workers.stages.samples import Feeds


@dataclass(frozen=True, slots=True)
class OnnxMixedOptions(MixedOptions):
    """`calibration_method` is as for int8-static."""

    calibration_method: CalibrationName | None = None


@dataclass(frozen=True, slots=True)
class OnnxEngine:
    """ONNX Runtime's quantizer on a prepared model and its calibration samples."""

    prepared: Path
    rows: tuple[Feeds, ...]
    ways: dict[str, Way]

    @property
    def operators(self) -> Sequence[str]:
        return weighted_nodes(self.prepared)

    @property
    def bases(self) -> Sequence[str]:
        return list(self.ways)

    def way(self, base: str, keep_float: tuple[str, ...]) -> Way:
        return replace(self.ways[base], keep_float=keep_float)

    def write(self, path: Path, base: str, keep_float: tuple[str, ...]) -> None:
        write(self.prepared, path, self.rows, self.way(base, keep_float))

    def write_only(self, path: Path, base: str, operator: str) -> None:
        write(self.prepared, path, self.rows, self.ways[base], only=operator)


@stage(
    name="quantize-onnx-int8-mixed",
    version="4",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    inputs=("calibration",),
    recipe="int8-mixed",
    options=OnnxMixedOptions,
    reads=SATURATION,
    tools=("onnxruntime", "onnx"),
    preload=PRELOAD,
    timeout_s=1200.0,
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx; facts["sensitivity"] ranks the operators, facts["keep_float"] names those left in float.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        BadRequest: an unknown calibration method, or an operator that the model lacks.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    options: OnnxMixedOptions = given.options
    wanted = ways(options.calibration_method, narrow=saturates(given.profile))
    samples = split_samples(given)
    engine = OnnxEngine(prepare(given), samples.calibration, {way.name: way for way in wanted})
    mixed = choose_mixed(given, Format.ONNX, samples, engine)
    return mixed.chosen.output(repeated(given, engine.way(mixed.base, mixed.keep_float)), **mixed.facts)
