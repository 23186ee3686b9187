"""Store an OpenVINO IR's weights in 8 or 4 bits; activations keep float32 in the file.

Tool: nncf.compress_weights, nncf 3.4.0 on openvino 2026.4.1, without data.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/weight-compression.html
Formula, int8-dynamic: w8 = round(w / s_c) + z_c per output channel, s_c = (max − min) / 255; at run time
x8 = round(x / s_g), s_g = max|x_g| / 127 per group of a row.
Formula, int4-weights: w4 = round(w / s_g) + z_g in groups of inputs of one output channel, s_g = (max − min) / 15.
Limits: the plugin scales activations only in matrix products and only on CPUs with dot-product instructions; elsewhere
it unpacks the weights and computes in float32: smaller, no faster. With 4 bits, groups hold 128 weights, or 64 or 32
where that is not near enough; embeddings, convolutions and the last product keep 8 bits, and so does one whose inputs
no group divides. Models without matrix products are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.runtimes.files import entry_file
from workers.runtimes.openvino import SUFFIXES
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, converter_errors, write
from workers.stages.quantize.products import needs_products
from workers.stages.quantize.selection import Candidate, Judge, choose, seeded_samples
from workers.stages.tool_calls import python_command, tool_call

if TYPE_CHECKING:
    import openvino

Arguments = Mapping[str, Any]
DYNAMIC: tuple[Arguments, ...] = ({"mode": "int8_asym"},)
FOUR_BITS: tuple[Arguments, ...] = tuple({"mode": "int4_asym", "group_size": size} for size in (128, 64, 32))


def _check(recipe: str, facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return needs_products(facts, recipe, "OpenVINO")


def compress(model: Path, arguments: Arguments) -> openvino.Model:
    """Return an IR with its weights compressed; `arguments` are nncf.compress_weights's, enums by their values."""
    import nncf
    import openvino

    compressed: openvino.Model = nncf.compress_weights(openvino.Core().read_model(model), **_typed(arguments))
    return compressed


def _typed(arguments: Arguments) -> dict[str, Any]:
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

    typed = dict(arguments) | {"mode": nncf.CompressWeightsMode(arguments["mode"])}
    if "group_size" in arguments:
        typed["advanced_parameters"] = AdvancedCompressionParameters(
            group_size_fallback_mode=GroupSizeFallbackMode.ADJUST
        )
    return typed


def quantize_weights(given: StageInput, ways: Sequence[Arguments]) -> StageOutput:
    """Write model.xml and model.bin by the first way that is near enough, else by the nearest.

    Returns: facts["sqnr_db"] is the worst output's against the float IR, on seeded inputs in [0, 1).
    Raises: ConversionFailed when no way gave a model that loads, runs and stays finite.
    """
    model = entry_file(given.files["model"], SUFFIXES)
    named = {", ".join(f"{key} {value}" for key, value in way.items()): way for way in ways}

    def candidate(name: str) -> Candidate:
        def make(path: Path) -> None:
            with tool_call("nncf", *converter_errors()):
                write(compress(model, named[name]), path)

        return Candidate(name, make)

    judge = Judge(given, Format.OPENVINO_IR, seeded_samples(given).selection)
    chosen = choose(judge, [candidate(name) for name in named])
    return chosen.output(
        python_command(
            "import openvino",
            "from pathlib import Path",
            "from workers.stages.quantize.quantize_openvino_ir_weights import compress",
            f"openvino.save_model(compress(Path('model.xml'), {dict(named[chosen.name])!r}), 'compressed.xml', "
            "compress_to_fp16=False)",
        )
    )


@stage(
    name="quantize-openvino-ir-int8-dynamic",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    recipe="int8-dynamic",
    check=partial(_check, "int8-dynamic"),
    tools=("openvino", "nncf"),
    preload=(*PRELOAD, "nncf"),
    timeout_s=TIMEOUT_S,
)
def quantize_dynamic(given: StageInput) -> StageOutput:
    return quantize_weights(given, DYNAMIC)


@stage(
    name="quantize-openvino-ir-int4-weights",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    recipe="int4-weights",
    check=partial(_check, "int4-weights"),
    tools=("openvino", "nncf"),
    preload=(*PRELOAD, "nncf"),
    timeout_s=TIMEOUT_S,
)
def quantize_to_four_bits(given: StageInput) -> StageOutput:
    return quantize_weights(given, FOUR_BITS)
