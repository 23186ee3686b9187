"""Layers of real TFLite and OpenVINO models, read through their tools; those of ONNX are in test_planted_faults.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stage_fixtures import ROOT, Answer, Call, models, run_call, run_calls
from tests.stage_fixtures import spec as tensor

pytestmark = pytest.mark.toolchain


def samples(folder: Path, image: dict[str, Any], *outputs: dict[str, Any]) -> Path:
    """Write what a reference run leaves: seeded inputs, and outputs that tracing does not look at."""
    rows = {f"input/{image['name']}": np.random.default_rng(3).random((2, *image["shape"])).astype(np.float32)}
    rows |= {f"output/{one['name']}": np.zeros((2, *one["shape"]), np.float32) for one in outputs}
    np.savez(folder / "samples.npz", **rows)
    return folder / "samples.npz"


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder = tmp_path_factory.mktemp("tflite")
    facts = run_call("litert", Call("inspect-tflite", {"model": models() / "int8.tflite"}), folder / "inspected").facts
    image, outputs = (
        tensor("image", "float32", 1, 8, 8, 3),
        [tensor("a", "float32", 1, 5), tensor("b", "float32", 1, 2)],
    )
    by_size = {one["shape"][-1]: one for one in facts["outputs"]}
    contract = {
        "inputs": [{"source": image, "artifact": facts["inputs"][0] | {"shape": image["shape"]}, "transpose": None}],
        "outputs": [{"source": o, "artifact": by_size[o["shape"][-1]], "transpose": None} for o in outputs],
        "changes": [],
    }
    files = {"model": models() / "int8.tflite", "samples": samples(folder, image, *outputs)}
    other = ROOT / "tests" / "edgetpu_pairs" / "mobilenet_v1_0.25_128_quant.tflite"
    calls = {
        "int8": Call("trace-tflite", files | {"float": models() / "good.tflite"}, {}, contract),
        "another": Call("trace-tflite", files | {"float": other}, {}, contract),
    }
    return run_calls("litert", calls, folder / "traced")


def test_every_layer_of_a_quantized_tflite_file_is_held_against_the_float_one(tflite: dict[str, Answer]) -> None:
    facts = tflite["int8"].facts

    assert [layer["operator"] for layer in facts["layers"]] == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    assert all(15 < layer["sqnr_db"] < 80 for layer in facts["layers"])
    assert facts["note"] is None


def test_layers_of_another_model_are_not_made_up(tflite: dict[str, Answer]) -> None:
    facts = tflite["another"].facts

    assert facts["layers"] is None
    assert "has a counterpart in the quantized file" in facts["note"]


def test_a_changed_weight_of_an_openvino_model_shows_in_its_layer_and_behind_it(tmp_path: Path) -> None:
    image, scores = tensor("image", "float32", 1, 3, 8, 8), tensor("scores", "float32", 1, 5)
    good, changed = models() / "good_openvino", tmp_path / "changed"
    shutil.copytree(good, changed)
    weights = np.fromfile(good / "model.bin", np.float32)
    weights[: 4 * 27] *= np.float32(1.5)
    weights.tofile(changed / "model.bin")
    given = {"float": good, "samples": samples(tmp_path, image, scores)}
    options = {"input_specs": [image], "output_specs": [scores]}
    calls = {
        name: Call("trace-openvino-ir", given | {"model": path}, options)
        for name, path in (("same", good), ("changed", changed))
    }

    answers = run_calls("openvino", calls, tmp_path / "traced")

    assert {layer["sqnr_db"] for layer in answers["same"].facts["layers"]} == {200.0}
    first, *_ = layers = answers["changed"].facts["layers"]
    assert first["operator"] == "Convolution"
    assert all(layer["sqnr_db"] < 20 for layer in layers)
