"""Inspection of models made for the Edge TPU, in the environment it runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.edgetpu_models import FLOAT32, Op, Tensor, tflite
from tests.stage_fixtures import Answer, Call, run_calls

pytestmark = pytest.mark.toolchain

PAIRS = Path(__file__).parents[1] / "edgetpu_pairs"
IMAGE, SCORES = Tensor((1, 8, 8, 4)), Tensor((1, 4), FLOAT32)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "poses.tflite").write_bytes(
        tflite([IMAGE, IMAGE, SCORES], [Op("RELU", (0,), (1,)), Op("PosenetDecoderOp", (1,), (2,))])
    )
    (folder / "other.tflite").write_bytes(
        tflite([IMAGE, IMAGE, SCORES], [Op("RELU", (0,), (1,)), Op("Atan", (1,), (2,))])
    )
    files = {
        "dense": PAIRS / "dense_256.tflite",
        "compiled": PAIRS / "dense_256_edgetpu.tflite",
        "poses": folder / "poses.tflite",
        "other": folder / "other.tflite",
    }
    calls = {name: Call("inspect-tflite", {"model": path}) for name, path in files.items()}
    return run_calls("builder", calls, tmp_path_factory.mktemp("calls"))


def test_a_quantized_model_comes_with_its_predicted_mapping(answers: dict[str, Answer]) -> None:
    prediction = answers["dense"].facts["extra"]["edgetpu"]
    assert prediction["predicted"] is True
    assert [(each["type"], each["mapped"]) for each in prediction["operators"]] == [
        ("QUANTIZE", True),
        ("FULLY_CONNECTED", True),
        ("QUANTIZE", True),
    ]


def test_a_custom_operator_that_the_edge_tpu_runtime_has_is_inspected(answers: dict[str, Answer]) -> None:
    facts = answers["poses"].facts
    assert [spec["shape"] for spec in facts["inputs"]] == [[1, 8, 8, 4]]
    assert [spec["dtype"] for spec in facts["outputs"]] == ["float32"]
    assert facts["operators"] == {"RELU": 1, "PosenetDecoderOp": 1}
    assert [each["mapped"] for each in facts["extra"]["edgetpu"]["operators"]] == [True, False]


def test_any_other_custom_operator_is_refused_by_name(answers: dict[str, Answer]) -> None:
    failure = answers["other"].failure
    assert (failure["code"], failure["evidence"]["operator"]) == ("custom-operator", "Atan")


def test_a_compiled_model_is_told_from_a_custom_operator(answers: dict[str, Answer]) -> None:
    failure = answers["compiled"].failure
    assert failure["code"] == "incompatible"
    assert "already compiled" in failure["message"]
