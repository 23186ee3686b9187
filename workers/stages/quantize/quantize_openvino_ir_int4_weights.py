"""Quantize the weights of an OpenVINO IR's matrix products to 4 bits.

Tool: nncf.compress_weights, nncf 3.4.0 on openvino 2026.4.1, without data.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/weight-compression/4-bit-weight-quantization.html
Formula: w4 = round(w / s_g) + z_g in groups of inputs of one output channel, s_g = (max − min) / 15.
Limits: groups hold 128 weights, or 32 where that is not near enough; embeddings, convolutions and the last product keep
8 bits, and so does one whose inputs no group divides. Models without matrix products are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S
from workers.stages.quantize.openvino_weights import needs_products, run_compression

WAYS = tuple({"mode": "int4_asym", "group_size": size} for size in (128, 64, 32))


def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return needs_products(facts, "int4-weights")


@stage(
    name="quantize-openvino-ir-int4-weights",
    version="1",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    recipe="int4-weights",
    tools=("openvino", "nncf"),
    preload=(*PRELOAD, "nncf"),
    timeout_s=TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin with weights in 4 bits; facts["sqnr_db"] is taken on seeded inputs."""
    return run_compression(given, WAYS)
