"""Quantize an OpenVINO IR to static int8, with the most sensitive operators left in float.

Tool: nncf.quantize with an ignored scope, nncf 3.4.0 on openvino 2026.4.1, weights per channel.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
Formula: as quantize-openvino-ir-int8-static; the sensitivity of an operator is the SQNR (dB) of the model's worst
output when it alone is quantized, and the k lowest stay in float.
Limits: those of quantize-openvino-ir-int8-static. The ranking takes some seconds for each convolution and matrix
product, on this host's CPU; what the budget leaves out stays in int8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.openvino import SUFFIXES
from workers.stages.openvino_models import PRELOAD, converter_errors
from workers.stages.openvino_models import write as write_model
from workers.stages.quantize.mixed import MixedOptions, choose_mixed
from workers.stages.quantize.quantize_openvino_ir_int8_static import (
    WEIGHTED,
    QuantizeOpenVinoOptions,
    Way,
    operators,
    quantize,
    repeated,
    ways,
)
from workers.stages.quantize.selection import SATURATION, saturates, split_samples
from workers.stages.quantize.sensitivity import SAMPLES
from workers.stages.samples import Feeds
from workers.stages.tool_calls import tool_call


@dataclass(frozen=True, slots=True)
class OpenVinoEngine:
    """NNCF on an IR and its calibration samples; a ranking calibrates on a few of them."""

    model: Path
    rows: tuple[Feeds, ...]
    operators: Sequence[str]
    ways: dict[str, Way]

    @property
    def bases(self) -> Sequence[str]:
        return list(self.ways)

    def way(self, base: str, keep_float: tuple[str, ...]) -> Way:
        return replace(self.ways[base], keep_float=keep_float)

    def write(self, path: Path, base: str, keep_float: tuple[str, ...]) -> None:
        self._write(path, self.rows, self.way(base, keep_float))

    def write_only(self, path: Path, base: str, operator: str) -> None:
        self._write(path, self.rows[:SAMPLES], self.ways[base], operator)

    def _write(self, path: Path, rows: tuple[Feeds, ...], way: Way, only: str | None = None) -> None:
        with tool_call("nncf", *converter_errors()):
            write_model(quantize(self.model, list(rows), way, len(rows), only=only), path)


@stage(
    name="quantize-openvino-ir-int8-mixed",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    inputs=("calibration",),
    recipe="int8-mixed",
    options=MixedOptions,
    reads=SATURATION,
    tools=("openvino", "nncf"),
    preload=(*PRELOAD, "nncf"),
    timeout_s=1200.0,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin; facts["sensitivity"] ranks operators, facts["keep_float"] names those in float.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        BadRequest: an operator that the model lacks.
        ConversionFailed: no candidate gave a model that loads, runs and stays finite.
    """
    import openvino

    samples = split_samples(given)
    path = entry_file(given.files["model"], SUFFIXES)
    model = openvino.Core().read_model(path)
    layers = {node.get_type_name() for node in model.get_ops()}
    wanted = ways(QuantizeOpenVinoOptions(), layers, narrow=saturates(given.profile))[-1:]
    named = {way.name: way for way in wanted}
    engine = OpenVinoEngine(path, samples.calibration, operators(model, WEIGHTED), named)
    mixed = choose_mixed(given, Format.OPENVINO_IR, samples, engine)
    way = engine.way(mixed.base, mixed.keep_float)
    return mixed.chosen.output(repeated(given, way, len(samples.calibration)), **mixed.facts)
