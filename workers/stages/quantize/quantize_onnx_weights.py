"""Quantize the weights of an ONNX model's matrix products to 8 or 4 bits for ONNX Runtime, without data.

Tools: onnxruntime.quantization.quantize_dynamic and MatMulNBitsQuantizer, onnxruntime 1.32.0, after
workers/stages/quantize/onnx_preparation.py; weights over 256 MiB go through workers/stages/quantize/onnx_large.py.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
Formula, int8-dynamic: w8 = round(w / s_c), s_c = max|w_c| / 127; at run time x8 = round(x / s) + z,
s = (max x − min x) / 255 of each call.
Formula, int4-weights: w4 = round(w / s_g) + z_g in groups of inputs of one output channel, s_g = (max − min) / 15.
Limits: convolutions stay in float, whose integer kernel is many times slower; the weights of recurrent layers (LSTM)
and embeddings take 8 bits too, not 4. Models without any of these are refused. CPUs without dot-product instructions
add pairs of products in 16 bits, which saturate: for them weights may keep 7 bits. Groups of 4-bit weights hold 128,
or 64, 32 or 16 where that is not near enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.facts import Format, ModelFacts
from farm.domain.recipe import RECIPES
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.quantize import onnx_large
from workers.stages.quantize.onnx_preparation import prepare, prepare_lines, refuse_unchanged
from workers.stages.quantize.onnx_static import PRELOAD
from workers.stages.quantize.products import needs_products
from workers.stages.quantize.selection import SATURATION, Candidate, Judge, choose, saturates, seeded_samples
from workers.stages.tool_calls import python_command, tool_call

DYNAMIC_OPERATORS = ("MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")
DYNAMIC_MADE = frozenset({"MatMulInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention"})
FOUR_BITS_MADE = frozenset({"MatMulNBits"})


def check_dynamic(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return needs_products(facts, "int8-dynamic", "ONNX Runtime", or_recurrent=True)


def check_four_bits(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return needs_products(facts, "int4-weights", "ONNX Runtime")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Weights in 8 bits, or 7 where `narrow`; activations at run time."""

    narrow: bool = False

    @property
    def name(self) -> str:
        return f"per channel, {7 if self.narrow else 8}-bit weights"

    def write(self, prepared: Path, path: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        if onnx_large.streams(prepared):
            onnx_large.quantize_dynamic(prepared, path, DYNAMIC_OPERATORS, narrow=self.narrow)
            return
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=list(DYNAMIC_OPERATORS),
            per_channel=True,
            reduce_range=self.narrow,
            weight_type=QuantType.QInt8,
            extra_options={"EnableSubgraph": True},
        )


@dataclass(frozen=True, slots=True)
class FourBits:
    """Weights in 4 bits; `group` of them share a scale and a zero point."""

    group: int

    @property
    def name(self) -> str:
        return f"groups of {self.group}"

    def write(self, prepared: Path, path: Path) -> None:
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        tool = MatMulNBitsQuantizer(onnx.load(prepared), block_size=self.group, is_symmetric=False)
        tool.model.replace_gemm_with_matmul()
        tool.process()
        tool.model.save_model_to_file(str(path), use_external_data_format=False)


def quantize_weights(
    given: StageInput, recipe: str, ways: Sequence[Dynamic | FourBits], made: frozenset[str]
) -> StageOutput:
    """Write model.onnx by the first way that reaches the recipe's SQNR on seeded inputs in [0, 1), else by the nearest.

    Raises:
        ConversionFailed: nothing was quantized, or no way gave a file that loads, runs and stays finite.
    """
    prepared = prepare(given)

    def writer(way: Dynamic | FourBits) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            with tool_call("onnxruntime"):
                way.write(prepared, path)
            refuse_unchanged(path, made, recipe)

        return write

    judge = Judge(given, Format.ONNX, seeded_samples(given).selection)
    candidates = [Candidate(way.name, writer(way)) for way in ways]
    chosen = choose(judge, candidates, enough_db=RECIPES[recipe].degraded_below_db)
    way = next(way for way in ways if way.name == chosen.name)
    return chosen.output(
        python_command(
            *prepare_lines(given),
            "from workers.stages.quantize.quantize_onnx_weights import Dynamic, FourBits",
            f"{way!r}.write(Path('prepared.onnx'), Path('quantized.onnx'))",
        )
    )


@stage(
    name="quantize-onnx-int8-dynamic",
    version="4",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    recipe="int8-dynamic",
    check=check_dynamic,
    reads=SATURATION,
    tools=("onnxruntime", "onnx"),
    preload=PRELOAD,
)
def quantize_dynamic(given: StageInput) -> StageOutput:
    ways = (Dynamic(narrow=saturates(given.profile)),)
    return quantize_weights(given, "int8-dynamic", ways, DYNAMIC_MADE)


@stage(
    name="quantize-onnx-int4-weights",
    version="3",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    recipe="int4-weights",
    check=check_four_bits,
    tools=("onnxruntime", "onnx"),
    preload=(*PRELOAD, "onnxruntime.quantization.matmul_nbits_quantizer"),
)
def quantize_to_four_bits(given: StageInput) -> StageOutput:
    ways = tuple(FourBits(group) for group in (128, 64, 32, 16))
    return quantize_weights(given, "int4-weights", ways, FOUR_BITS_MADE)
