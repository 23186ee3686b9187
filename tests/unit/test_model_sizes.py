"""What no tool gets into a file is refused before any work, with the size, the limit and a way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind
from tests.domain_world import IMAGE, SCORES, SPECS, model, planned, with_specs
from workers.stages import load_specs
from workers.stages.model_sizes import MAX_MODEL_BYTES

LIMITED = {
    "keras-to-onnx", "keras-h5-to-onnx", "savedmodel-to-onnx",
    "keras-to-openvino-ir", "keras-h5-to-openvino-ir", "savedmodel-to-openvino-ir",
    "keras-to-tflite", "keras-h5-to-tflite", "savedmodel-to-tflite", "torch-exported-program-to-tflite",
    "torchscript-to-onnx", "tflite-to-onnx",
    "onnx-to-tflite", "onnx-to-tflite-via-torch", "onnx-to-tf-savedmodel", "compile-onnx-to-ort", "trace-onnx",
}  # fmt: skip
WAYS_OUT = ("external data", "quantize", "Quantize", ".pt2", "compared all the same")


def of(size_bytes: int | None) -> ModelFacts:
    return ModelFacts(Format.ONNX, (IMAGE,), (SCORES,), size_bytes=size_bytes)


@pytest.mark.parametrize("name", sorted(LIMITED))
def test_what_a_file_cannot_hold_is_refused(name: str) -> None:
    spec = load_specs()[name]
    options = spec.options()

    said = spec.check(of(MAX_MODEL_BYTES + 1), {}, options).reason or ""

    assert spec.check(of(MAX_MODEL_BYTES), {}, options).can
    assert spec.check(of(None), {}, options).can
    assert f"{MAX_MODEL_BYTES + 1} bytes" in said
    assert f"{MAX_MODEL_BYTES} at most" in said
    assert any(way in said for way in WAYS_OUT)


def test_whatever_ends_in_tflite_or_ort_has_the_limit_of_a_flatbuffer() -> None:
    """Quantizers are not asked: what they write may be a quarter of what they read."""
    kinds, targets = (Kind.EXPORT, Kind.CONVERT), (Format.TFLITE, Format.ORT)
    found = {spec.name for spec in load_specs().values() if spec.kind in kinds and spec.target in targets}

    assert found <= LIMITED


def test_a_model_too_large_to_show_its_layers_is_quantized_all_the_same() -> None:
    """Given a model over the limit; then its plan says why no layers are compared."""
    check = load_specs()["trace-onnx"].check
    world = with_specs(trace_onnx=replace(SPECS["trace-onnx"], check=check))
    plan = planned(model(facts=of(MAX_MODEL_BYTES + 1)), world=world, recipes=("int8-static",), runtimes=("ort",))
    told = [branch.layers.not_compared for result in plan.results for branch in result.branches if branch.layers]

    assert told
    assert all(str(MAX_MODEL_BYTES) in (reason or "") for reason in told)
    assert not any(step.stage == "trace-onnx" for step in plan.steps.values())
