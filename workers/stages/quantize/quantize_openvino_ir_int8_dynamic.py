"""Quantize the weights of an OpenVINO IR to int8; activations of matrix products are scaled while the model runs.

Tool: nncf.compress_weights, nncf 3.4.0 on openvino 2026.4.1, without data.
Document: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/weight-compression/8-bit-weight-compression.html
Formula: w8 = round(w / s_c) + z_c per output channel, s_c = (max − min) / 255; at run time x8 = round(x / s_g),
s_g = max|x_g| / 127 per group of a row.
Limits: the plugin scales activations only in matrix products and only on CPUs with dot-product instructions; elsewhere
it unpacks the weights and computes in float32: smaller, no faster. Models without matrix products are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S
from workers.stages.quantize.openvino_weights import needs_products, run_compression

WAYS = ({"mode": "int8_asym"},)


def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return needs_products(facts, "int8-dynamic")


@stage(
    name="quantize-openvino-ir-int8-dynamic",
    version="1",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    recipe="int8-dynamic",
    tools=("openvino", "nncf"),
    preload=(*PRELOAD, "nncf"),
    timeout_s=TIMEOUT_S,
)
def run(given: StageInput) -> StageOutput:
    """Write model.xml and model.bin with weights in int8; facts["sqnr_db"] is taken on seeded inputs."""
    return run_compression(given, WAYS)
