"""Sources and artifacts on the user's own data: reference, comparison and evaluation, through real runtimes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.stage_fixtures import Answer, Call, models, run_calls, spec

pytestmark = pytest.mark.toolchain

IMAGE = spec("image", "float32", 1, 8, 8, 3)
SAVED, ONNX_IMAGE = "good_savedmodel", spec("image", "float32", 1, 3, 8, 8)
REFERENCE = "reference-tf-savedmodel"


def tflite_contract(facts: dict[str, Any]) -> dict[str, Any]:
    """Bind the SavedModel's tensors to those of the TFLite file made from it: by their last axis."""
    outputs = {tensor["shape"][-1]: tensor for tensor in facts["outputs"]}
    sources = (spec("output_0", "float32", 1, 5), spec("output_1", "float32", 1, 2))
    pairs = [{"source": s, "artifact": outputs[s["shape"][-1]], "transpose": None} for s in sources]
    inputs = [{"source": IMAGE, "artifact": facts["inputs"][0], "transpose": None}]
    return {"inputs": inputs, "outputs": pairs, "changes": ["input image: float32 → int8"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images with labels, and spoilt copies."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(5)
    images = rng.random((24, 8, 8, 3), dtype=np.float32)
    np.savez(folder / "good.npz", image=images, labels=rng.integers(0, 5, 24))
    np.savez(folder / "others.npz", image=rng.random((8, 8, 8, 3), dtype=np.float32))
    np.savez(folder / "shape.npz", image=images[:, :7])
    np.savez(folder / "dtype.npz", image=images.astype(np.float64))
    np.savez(folder / "name.npz", picture=images)
    np.savez(folder / "pickled.npz", image=np.array([{}], dtype=object))
    np.savez(folder / "empty.npz", image=images[:0])
    np.savez(folder / "infinite.npz", image=np.full_like(images, np.inf))
    (folder / "text.npz").write_text("no zip")
    return folder


@pytest.fixture(scope="module")
def on_builder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Run the SavedModel on each data file, and inspect the TFLite files made from it."""
    model, options = models() / SAVED, {"input_specs": [IMAGE], "samples": 100}
    calls = {
        file.stem: Call(REFERENCE, {"model": model, "samples": file}, options) for file in sorted(data.glob("*.npz"))
    }
    calls["few"] = Call(REFERENCE, {"model": model, "samples": data / "good.npz"}, options | {"samples": 5})
    good = {"model": model, "samples": data / "good.npz"}
    calls["parted"] = Call(REFERENCE, good, options | {"part": "report", "selects": True})
    calls["beside"] = Call(REFERENCE, good | {"selection": data / "others.npz"}, options | {"selects": True})
    calls["int8"] = Call("inspect-tflite", {"model": models() / "int8.tflite"})
    calls["float"] = Call("inspect-tflite", {"model": models() / "good.tflite"})
    external = {"model": models() / "external_onnx"}
    calls["external"] = Call("reference-onnx", external, {"input_specs": [ONNX_IMAGE], "samples": 2})
    logarithm = {"model": models() / "logarithm.onnx"}
    calls["logarithm"] = Call("reference-onnx", logarithm, {"input_specs": [ONNX_IMAGE]})
    return run_calls("builder", calls, tmp_path_factory.mktemp("builder"))


@pytest.fixture(scope="module")
def on_litert(on_builder: dict[str, Answer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    samples, calls = on_builder["good"].output("samples"), {}
    for kind, file in (("float", "good.tflite"), ("int8", "int8.tflite")):
        model, contract = models() / file, tflite_contract(on_builder[kind].facts)
        calls[f"{kind} compared"] = Call("compare-litert", {"model": model, "samples": samples}, {}, contract)
        for metric in ("top1", "agreement", "mae"):
            files = {"model": model, "evaluation": samples}
            options = {"metric": metric, "output": "output_0"}
            calls[f"{kind} {metric}"] = Call("evaluate-litert", files, options, contract)
    parted, contract = on_builder["parted"].output("samples"), tflite_contract(on_builder["int8"].facts)
    quantized = {"model": models() / "int8.tflite"}
    calls["parted compared"] = Call("compare-litert", quantized | {"samples": parted}, {}, contract)
    agreement = {"metric": "agreement", "output": "output_0"}
    calls["parted agreement"] = Call("evaluate-litert", quantized | {"evaluation": parted}, agreement, contract)
    swapped = tflite_contract(on_builder["float"].facts)
    first, second = swapped["outputs"]
    first["artifact"], second["artifact"] = second["artifact"], first["artifact"]
    files = {"model": models() / "good.tflite", "samples": samples}
    calls["swapped"] = Call("compare-litert", files, {}, swapped)
    return run_calls("litert", calls, tmp_path_factory.mktemp("litert"))


def test_samples_hold_inputs_outputs_and_labels(on_builder: dict[str, Answer], data: Path) -> None:
    answer = on_builder["good"]
    assert answer.facts["samples"] == 24
    assert answer.facts["generated"] is False
    with np.load(answer.output("samples")) as stored, np.load(data / "good.npz") as given:
        assert set(stored) == {"input/image", "output/output_0", "output/output_1", "labels"}
        assert stored["input/image"].shape == (24, 1, 8, 8, 3)
        assert stored["output/output_0"].shape == (24, 1, 5)
        np.testing.assert_array_equal(stored["input/image"][:, 0], given["image"])
        np.testing.assert_array_equal(stored["labels"], given["labels"])


def test_samples_that_select_stand_after_those_that_report_and_are_others(on_builder: dict[str, Answer]) -> None:
    with np.load(on_builder["parted"].output("samples")) as stored:
        marks = stored["selects"].ravel().tolist()
        assert marks == [0] * 6 + [1] * 6
        assert len({row.tobytes() for row in stored["input/image"]}) == 12
        assert len(stored["output/output_0"]) == 12


def test_another_file_selects_where_one_is_given(on_builder: dict[str, Answer], data: Path) -> None:
    with np.load(on_builder["beside"].output("samples")) as stored, np.load(data / "others.npz") as others:
        assert stored["selects"].ravel().tolist() == [0] * 24 + [1] * 4
        calibrating = {row.tobytes() for row in others["image"]} - {
            row.tobytes() for row in stored["input/image"][24:, 0]
        }
        assert len(calibrating) == 4
        assert len(stored["labels"]) == 24


def test_each_part_of_the_samples_has_figures_of_its_own(on_litert: dict[str, Answer]) -> None:
    numerics, accuracy = (on_litert[f"parted {name}"].facts for name in ("compared", "agreement"))
    told, score = numerics["numerics"], accuracy["accuracy"]
    assert (told["samples"], told["selection"]["samples"]) == (6, 6)
    assert told["sqnr_db"] != told["selection"]["sqnr_db"]
    assert told["selection"]["sqnr_db"] > 10
    assert (score["samples"], score["selection"]["samples"]) == (6, 6)
    assert score["selection"]["float_value"] == 1.0
    assert "selection" not in on_litert["int8 compared"].facts["numerics"]


def test_few_samples_are_spread_over_the_file(on_builder: dict[str, Answer], data: Path) -> None:
    with np.load(on_builder["few"].output("samples")) as stored, np.load(data / "good.npz") as given:
        rows = [0, 4, 9, 14, 19]
        np.testing.assert_array_equal(stored["input/image"][:, 0], given["image"][rows])
        np.testing.assert_array_equal(stored["labels"], given["labels"][rows])


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("shape", "'image' has shape [24, 7, 8, 3]; (N,8,8,3) is needed"),
        ("dtype", "'image' has dtype float64; float32 is needed"),
        ("name", "no array 'image'; it holds picture"),
        ("pickled", "'image' of the given file holds pickled Python objects"),
        ("empty", "holds no sample"),
        ("text", "not a readable .npz"),
        ("infinite", "Sample 0 of array 'image' holds values that are not finite"),
    ],
)
def test_data_that_does_not_fit_is_refused(on_builder: dict[str, Answer], file: str, says: str) -> None:
    failure = on_builder[file].failure
    assert (failure["code"], failure["who_must_act"]) == ("bad-data", "submitter")
    assert says in failure["message"]


def test_a_source_that_is_not_finite_is_said(on_builder: dict[str, Answer]) -> None:
    """The logarithm of negative numbers: the model itself is at fault, on data that is not."""
    failure = on_builder["logarithm"].failure
    assert failure["who_must_act"] == "submitter"
    assert "source model itself returns" in failure["message"]
    assert "output 'scores' that are not finite (sample 0)" in failure["message"]


def test_a_folder_with_external_data_runs(on_builder: dict[str, Answer]) -> None:
    assert on_builder["external"].facts["outputs"] == [spec("scores", "float32", 1, 5)]


def test_a_float_conversion_is_near_and_int8_is_further(on_litert: dict[str, Answer]) -> None:
    near, far = (on_litert[f"{kind} compared"].facts["numerics"] for kind in ("float", "int8"))
    assert near["sqnr_db"] > 100
    assert 10 < far["sqnr_db"] < 60
    assert far["cosine"] > 0.9
    assert (near["samples"], len(near["per_output"])) == (24, 2)


def test_the_contracts_changes_are_handed_on(on_litert: dict[str, Answer]) -> None:
    artifact = on_litert["int8 compared"].facts["artifact"]
    changes = artifact["contract_changes"]
    assert changes[0] == "input image: float32 → int8", "what the route declared"
    assert "input image: renamed to serving_default_image:0" in changes
    assert any(change.startswith("output output_0: float32 → int8 (scale ") for change in changes)
    held = [tensor["name"] for tensor in artifact["outputs"]]
    bound = {pair["artifact"]["name"]: pair["source"]["name"] for pair in tflite_contract(artifact)["outputs"]}
    order = [bound[name] for name in held]
    assert (f"outputs: in the order {', '.join(order)}" in changes) == (order != ["output_0", "output_1"])
    assert artifact["inputs"][0]["dtype"] == "int8"


def test_outputs_bound_the_wrong_way_are_a_mismatch(on_litert: dict[str, Answer]) -> None:
    assert on_litert["swapped"].failure["code"] == "contract-mismatch"


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_accuracy_stands_beside_the_sources(
    on_litert: dict[str, Answer], on_builder: dict[str, Answer], kind: str
) -> None:
    """The score is computed anew from what the reference stored."""
    with np.load(on_builder["good"].output("samples")) as stored:
        scores, labels = stored["output/output_0"][:, 0], stored["labels"]
    accuracy = on_litert[f"{kind} top1"].facts["accuracy"]
    assert accuracy["float_value"] == pytest.approx(np.mean(scores.argmax(axis=1) == labels))
    assert accuracy["samples"] == 24
    assert accuracy["ci95"][0] <= accuracy["value"] <= accuracy["ci95"][1]
    if kind == "float":
        assert accuracy["value"] == accuracy["float_value"]


def test_agreement_takes_the_source_as_truth(on_litert: dict[str, Answer]) -> None:
    assert on_litert["float agreement"].facts["accuracy"]["value"] == 1.0
    assert 0.5 <= on_litert["int8 agreement"].facts["accuracy"]["value"] <= 1.0


def test_labels_of_another_shape_are_refused(on_litert: dict[str, Answer]) -> None:
    failure = on_litert["float mae"].failure
    assert failure["code"] == "bad-data"
    assert "numbers of the output's shape [1, 5] are needed" in failure["message"]
