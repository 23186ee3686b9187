"""Bad and hostile models: each gets a clear refusal, nothing runs, and the next one is fine."""

import shutil
from dataclasses import dataclass

import pytest

from tests.stage_fixtures import Answer, Call, lowered_model, models, run_calls, spec

pytestmark = pytest.mark.toolchain


@dataclass(frozen=True)
class Case:
    stage: str
    file: str
    code: str
    says: str
    evidence: dict[str, str] | None = None


PT2, TS, ONNX = "inspect-torch-exported-program", "inspect-torchscript", "inspect-onnx"
ORT, PTE = "inspect-ort", "inspect-executorch"
SAVED, KERAS, H5, TFLITE = "inspect-tf-savedmodel", "inspect-keras", "inspect-keras-h5", "inspect-tflite"
IR = "inspect-openvino-ir"
CASES = (
    Case(PT2, "hostile.pt2", "unsafe-model", "could run code"),
    Case(PT2, "cut.pt2", "corrupt-model", "not a complete archive"),
    Case(PT2, "empty.pt2", "corrupt-model", "empty (0 bytes)"),
    Case(PT2, "training.pt2", "bad-request", "training mode"),
    Case(PT2, "script_named.pt2", "unknown-format", "holds a torchscript"),
    Case(PT2, "custom.pt2", "custom-operator", "farmtest.twice", {"domain": "farmtest"}),
    Case(TS, "raw_pickle.pt", "unsafe-model", "pickle of Python objects"),
    Case(TS, "module.pt", "unsafe-model", "pickle of Python objects"),
    Case(TS, "weights.pt", "unknown-format", "weights only (a state_dict)"),
    Case(TS, "cut.pt", "corrupt-model", "not a complete archive"),
    Case(TS, "training.pt", "bad-request", "training mode"),
    Case(TS, "reader.pt", "unsafe-model", "torch.from_file"),
    Case(TS, "custom.pt", "custom-operator", "farmtest", {"domain": "farmtest"}),
    Case(ONNX, "custom.onnx", "custom-operator", "Foo of domain acme.ops", {"operator": "Foo", "domain": "acme.ops"}),
    Case(ONNX, "unknown_operator.onnx", "custom-operator", "NoSuchOperator", {"domain": "ai.onnx"}),
    Case(ONNX, "newer.onnx", "incompatible", "IR version"),
    Case(ONNX, "cut.onnx", "corrupt-model", "not a complete ONNX model"),
    Case(ONNX, "text.onnx", "corrupt-model", "ONNX model"),
    Case(ONNX, "empty.onnx", "corrupt-model", "empty (0 bytes)"),
    Case(ONNX, "missing_onnx", "missing-file", "weights.bin"),
    Case(ONNX, "linked_onnx", "missing-file", "weights.bin is a link that leads out of the folder"),
    Case(ONNX, "escaping_onnx", "unsafe-model", "../secret.bin"),
    Case(ONNX, "absolute_onnx", "unsafe-model", "/etc/passwd"),
    Case(ONNX, "several_onnx", "corrupt-model", "2 .onnx"),
    Case(ORT, "cut.ort", "corrupt-model", "verification failed"),
    Case(ORT, "text.ort", "corrupt-model", "ORTM"),
    Case(ORT, "empty.ort", "corrupt-model", "empty (0 bytes)"),
    Case(PTE, "cut.pte", "corrupt-model", "does not open"),
    Case(PTE, "text.pte", "corrupt-model", "ET12"),
    Case(SAVED, "writes_savedmodel", "unsafe-model", "WriteFile"),
    Case(SAVED, "python_savedmodel", "unsafe-model", "EagerPyFunc"),
    Case(SAVED, "no_variables_savedmodel", "missing-file", "variables"),
    Case(SAVED, "cut_variables_savedmodel", "corrupt-model", "Read less bytes than requested"),
    Case(SAVED, "cut_graph_savedmodel", "corrupt-model", "saved_model.pb is damaged"),
    Case(SAVED, "external_onnx", "missing-file", "saved_model.pb"),
    Case(KERAS, "lambda.keras", "unsafe-model", "Lambda"),
    Case(KERAS, "custom.keras", "custom-operator", "acme>Plus", {"operator": "Plus", "domain": "acme"}),
    Case(KERAS, "cut.keras", "corrupt-model", "not a complete .keras archive"),
    Case(KERAS, "good.h5", "unknown-format", "HDF5"),
    Case(H5, "lambda.h5", "unsafe-model", "Lambda"),
    Case(H5, "custom.h5", "custom-operator", "Plus"),
    Case(H5, "cut.h5", "corrupt-model", "not a complete HDF5 file"),
    Case(H5, "only.weights.h5", "unknown-format", "weights only"),
    Case(IR, "no_weights_openvino", "missing-file", "model.bin"),
    Case(IR, "short_weights_openvino", "corrupt-model", "not of one model"),
    Case(IR, "other_weights_openvino", "corrupt-model", "not of one model"),
    Case(IR, "cut_graph_openvino", "corrupt-model", "no complete XML"),
    Case(IR, "custom_openvino", "custom-operator", "Foo", {"operator": "Foo", "domain": "extension"}),
    Case(IR, "newer_openvino", "custom-operator", "opset99"),
    Case(IR, "no_network_openvino", "unknown-format", "no OpenVINO network"),
    Case(IR, "several_openvino", "corrupt-model", "2 .xml"),
    Case(TFLITE, "cut.tflite", "corrupt-model", "does not open"),
    Case(TFLITE, "text.tflite", "corrupt-model", "TFL3"),
    Case(TFLITE, "flex.tflite", "custom-operator", "FlexMatrixInverse", {"domain": "tflite"}),
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Inspect all of them, one after the other, in one process; a good model comes last."""
    calls = {case.file + case.stage: Call(case.stage, {"model": models() / case.file}) for case in CASES}
    lowered = {key: calls.pop(key) for key in list(calls) if key.endswith(PTE)}
    lowered = {key: Call(PTE, {"model": lowered_model().with_name(key.removesuffix(PTE))}) for key in lowered}
    calls["ansi"] = Call(ONNX, {"model": models() / "ansi.onnx"})
    calls["external"] = Call(ONNX, {"model": models() / "external_onnx"})
    misplaced = tmp_path_factory.mktemp("misplaced")
    (misplaced / "data").mkdir()
    shutil.copy(models() / "external_onnx" / "model.onnx", misplaced)
    shutil.copy(models() / "external_onnx" / "weights.bin", misplaced / "data")
    calls["misplaced"] = Call(ONNX, {"model": misplaced})
    calls["integer"] = Call(TFLITE, {"model": models() / "int8.tflite"})
    calls["sequential"] = Call(KERAS, {"model": models() / "sequential.keras"})
    calls["rate"] = Call(TS, {"model": models() / "rate.pt"})
    numbers = [spec("x", "float32", 1, 4), spec("rate", "int64")]
    calls["rate run"] = Call("reference-torchscript", {"model": models() / "rate.pt"}, {"input_specs": numbers})
    return run_calls("builder", calls, tmp_path_factory.mktemp("bad")) | run_calls(
        "executorch", lowered, tmp_path_factory.mktemp("bad")
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}")
def test_refusal_says_what_and_who(answers: dict[str, Answer], case: Case) -> None:
    failure = answers[case.file + case.stage].failure
    assert failure["code"] == case.code, failure
    assert case.says in failure["message"]
    assert failure["who_must_act"] == "submitter"
    assert failure["remedy"]
    assert (case.evidence or {}).items() <= failure["evidence"].items()
    assert "Traceback" not in failure["message"]


def test_nothing_hostile_ran(answers: dict[str, Answer]) -> None:
    assert answers
    assert not list(models().glob("*_RAN"))


def test_names_of_a_model_cannot_drive_a_terminal(answers: dict[str, Answer]) -> None:
    failure = answers["ansi"].failure
    assert failure["code"] == "custom-operator"
    assert failure["evidence"] == {"operator": "<b>Foo</b>", "domain": "../evil"}
    assert "\x1b" not in str(failure)


def test_external_data_in_another_place_is_found_and_named(answers: dict[str, Answer]) -> None:
    failure = answers["misplaced"].failure
    assert (failure["code"], failure["who_must_act"]) == ("missing-file", "submitter")
    assert "not submitted: weights.bin. There is data/weights.bin" in failure["message"]


def test_external_data_beside_the_model_is_read(answers: dict[str, Answer]) -> None:
    facts = answers["external"].facts
    assert facts["extra"]["external_data"] == ["weights.bin"]
    assert facts["size_bytes"] > sum(4 * size for size in (4 * 27, 20))


def test_integer_tensors_carry_scale_and_zero_point(answers: dict[str, Answer]) -> None:
    (image,) = answers["integer"].facts["inputs"]
    assert image["dtype"] == "int8"
    assert 0 < image["scale"] < 1
    assert image["zero_point"] == -128


def test_a_sequential_model_has_inputs_and_outputs(answers: dict[str, Answer]) -> None:
    facts = answers["sequential"].facts
    assert [(t["name"], t["shape"]) for t in facts["inputs"]] == [("x", ["?", 4])]
    assert [(t["name"], t["shape"]) for t in facts["outputs"]] == [("y", ["?", 2])]


def test_a_script_may_take_plain_numbers_and_return_a_list(answers: dict[str, Answer]) -> None:
    """The number of outputs is open until it runs."""
    assert answers["rate"].facts["outputs"] == []
    assert answers["rate"].facts["inputs"][1] == spec("rate", "int64")
    assert [found["name"] for found in answers["rate run"].facts["outputs"]] == ["output_0", "output_1"]
