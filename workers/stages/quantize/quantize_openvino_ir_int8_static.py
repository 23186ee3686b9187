"""Quantize an OpenVINO IR to static int8: fake-quantize pairs that the CPU plugin runs as int8 kernels.

Tool: nncf.quantize, nncf 3.4.0 on openvino 2026.4.1, weights per channel.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z with s = (max − min) / 255 over the
calibration (preset mixed: asymmetric where values have both signs), then biases are moved by the mean error.
Limits: input and output stay float32; whether int8 is faster is the plugin's choice per layer. x86 CPUs without VNNI
add pairs of products in 16 bits, which saturate: for them weights keep 7 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadRequest
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.runtimes.files import entry_file
from workers.runtimes.openvino import SUFFIXES
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, converter_errors, write
from workers.stages.quantize.selection import (
    SATURATION,
    CalibratedOptions,
    Candidate,
    Judge,
    Samples,
    keep,
    rows_lines,
    saturates,
    split_samples,
    try_coarsest,
)
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call

if TYPE_CHECKING:
    import openvino

PRESETS = ("mixed", "performance")
CONVOLUTIONS = ("Convolution", "GroupConvolution")
WEIGHTED = (*CONVOLUTIONS, "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
FLOAT_LAYERS = 4
"""Convolutions nearest the input: all others stand on their errors, and they are often the most sensitive."""


@dataclass(frozen=True, slots=True)
class QuantizeOpenVinoOptions(CalibratedOptions):
    """What nncf.quantize is told.

    Attributes:
        preset: "mixed" (asymmetric activations) or "performance" (symmetric).
        fast_bias_correction: False moves biases by exact means, which takes over twice as long; on the PP-OCRv4 models
            it came 0.1 dB nearer at best and 0.6 dB less near at worst.
        subset_size: calibration samples to take at most; 0 takes all.
    """

    preset: str = "mixed"
    fast_bias_correction: bool = True
    subset_size: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """Arguments of nncf.quantize that differ from one candidate to the next.

    The first `float_layers` convolutions and the operators named in `keep_float` stay float32.
    """

    name: str
    preset: str = "mixed"
    fast_bias_correction: bool = True
    transformer: bool = False
    narrow: bool = False
    float_layers: int = 0
    keep_float: tuple[str, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        import nncf
        from nncf.quantization import advanced_parameters

        narrow = advanced_parameters.OverflowFix.ENABLE if self.narrow else advanced_parameters.OverflowFix.FIRST_LAYER
        return {
            "preset": nncf.QuantizationPreset(self.preset),
            "fast_bias_correction": self.fast_bias_correction,
            "model_type": nncf.ModelType.TRANSFORMER if self.transformer else None,
            "advanced_parameters": advanced_parameters.AdvancedQuantizationParameters(overflow_fix=narrow),
        }


def check(facts: ModelFacts, profile: Mapping[str, Any], options: QuantizeOpenVinoOptions) -> Verdict:
    if options.preset not in PRESETS:
        return Verdict.no(f"Preset {options.preset!r} is unknown; there are {', '.join(PRESETS)}.")
    return Verdict.yes()


@stage(
    name="quantize-openvino-ir-int8-static",
    version="5",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    inputs=("calibration",),
    recipe="int8-static",
    options=QuantizeOpenVinoOptions,
    reads=SATURATION,
    tools=("openvino", "nncf"),
    preload=(*PRELOAD, "nncf"),
    timeout_s=2 * TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin; facts["sqnr_db"] is the worst output's against the float IR, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        BadRequest: an unknown preset.
        ConversionFailed: no candidate gave a model that loads, runs and stays finite.
    """
    import openvino

    samples = split_samples(given)
    model = entry_file(given.files["model"], SUFFIXES)
    layers = {node.get_type_name() for node in openvino.Core().read_model(model).get_ops()}
    wanted = ways(given.options, layers, narrow=saturates(given.profile))
    size = given.options.subset_size or len(samples.calibration)
    judge = Judge(given, Format.OPENVINO_IR, samples.selection)
    candidates = [Candidate(way.name, _writer(model, samples, way, size)) for way in wanted]
    chosen = keep(judge, try_coarsest(judge, candidates))
    return chosen.output(repeated(given, next(way for way in wanted if way.name == chosen.name), size))


def ways(options: QuantizeOpenVinoOptions, layers: set[str], *, narrow: bool) -> tuple[Way, ...]:
    """List what to try, the nearest to float first: each keeps less of the model in float.

    Raises:
        BadRequest: an unknown preset.
    """
    if options.preset not in PRESETS:
        raise BadRequest(f"Preset {options.preset!r} is unknown; there are {', '.join(PRESETS)}.")
    transformer = {"MatMul", "Softmax"} <= layers
    correction, bits = "fast" if options.fast_bias_correction else "exact", ", 7-bit weights" if narrow else ""
    whole = Way(
        f"{options.preset}, {correction} bias correction{bits}",
        options.preset,
        fast_bias_correction=options.fast_bias_correction,
        transformer=transformer,
        narrow=narrow,
    )
    late = replace(whole, name=f"{whole.name}, first {FLOAT_LAYERS} convolutions in float", float_layers=FLOAT_LAYERS)
    return (whole,) if layers.isdisjoint(CONVOLUTIONS) else (late, whole)


def quantize(model: Path, rows: list[Feeds], way: Way, subset_size: int, *, only: str | None = None) -> openvino.Model:
    """Return the int8 model of an IR; a row holds one sample by input name, `only` is the one operator to quantize."""
    import nncf
    import openvino

    source = openvino.Core().read_model(model)
    if only:
        kept = [node.friendly_name for node in source.get_ordered_ops() if node.friendly_name != only]
    else:
        kept = [*operators(source, CONVOLUTIONS)[: way.float_layers], *way.keep_float]
    scope = nncf.IgnoredScope(names=kept, validate=False)
    quantized: openvino.Model = nncf.quantize(
        source, nncf.Dataset(rows), subset_size=subset_size, ignored_scope=scope, **way.arguments
    )
    return quantized


def operators(model: openvino.Model, kinds: tuple[str, ...]) -> list[str]:
    """Name the operators of these kinds, first to last."""
    return [node.friendly_name for node in model.get_ordered_ops() if node.get_type_name() in kinds]


def _writer(model: Path, samples: Samples, way: Way, subset_size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with tool_call("nncf", *converter_errors()):
            write(quantize(model, list(samples.calibration), way, subset_size), path)

    return make


def repeated(given: StageInput, way: Way, subset_size: int) -> str:
    """Repeat the call on a model and calibration.npz."""
    return python_command(
        "import openvino",
        *rows_lines(given),
        "from workers.stages.quantize.quantize_openvino_ir_int8_static import Way, quantize",
        f"openvino.save_model(quantize(Path('model.xml'), rows, {way!r}, {subset_size}), 'int8.xml')",
    )
