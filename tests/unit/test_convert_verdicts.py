"""What conversion stages say before any work, and of what their tools say after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from farm.domain.errors import BadRequest, ConversionFailed, ToolOutOfMemory
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.knowledge import diagnose
from workers.stages import load_specs
from workers.stages.convert.onnx_to_tflite import ROUNDS, command
from workers.stages.quantize.onnx_static import ways
from workers.stages.quantize.selection import saturates
from workers.stages.tool_calls import tool_call


def facts(*operators: str) -> ModelFacts:
    return ModelFacts(Format.ONNX, (), (), operators=dict.fromkeys(operators, 1))


@pytest.mark.parametrize("operator", ["If", "Loop", "SequenceAt", "acme.ops::Foo", "com.microsoft::Gelu"])
@pytest.mark.parametrize("stage", ["onnx-to-tflite", "onnx-to-tflite-via-torch"])
def test_what_converters_get_silently_wrong_is_refused_by_name(stage: str, operator: str) -> None:
    verdict = load_specs()[stage].check(facts("Conv", operator), {}, None)

    assert not verdict.can
    assert operator in (verdict.reason or "")


def test_what_one_route_lacks_the_other_may_take() -> None:
    specs = load_specs()

    assert not specs["onnx-to-tflite-via-torch"].check(facts("NonMaxSuppression"), {}, None).can
    assert specs["onnx-to-tflite"].check(facts("NonMaxSuppression"), {}, None).can
    assert specs["onnx-to-tflite"].cost < specs["onnx-to-tflite-via-torch"].cost


@pytest.mark.parametrize("stage", ["onnx-to-tflite", "onnx-to-tflite-via-torch", "compile-onnx-to-ort"])
def test_what_no_file_holds_is_refused_with_both_sizes(stage: str) -> None:
    check, most = load_specs()[stage].check, (2 << 30) - 1

    verdict = check(replace(facts("Conv"), size_bytes=most + 1), {}, None)

    assert check(replace(facts("Conv"), size_bytes=most), {}, None).can
    assert not verdict.can
    assert f"{most + 1} bytes" in (verdict.reason or "")
    assert f"{most} at most" in (verdict.reason or "")
    assert "quantize" in (verdict.reason or "")


def test_the_command_simplifies_as_often_and_keeps_the_same_inputs() -> None:
    image, text = TensorSpec("image", "float32", (1, 3, 8, 8)), TensorSpec("words:0", "int64", (1, 16))

    *first, last = command((image, text)).split(" && ")

    assert first[0] == "cp model.onnx copy.onnx"
    assert first[1:] == ["onnxsim copy.onnx copy.onnx --overwrite-input-shape image:1,3,8,8 words:0:1,16"] * ROUNDS
    assert last == "onnx2tf -i copy.onnx -o converted -nuo -n -kat words__0"
    assert "-kat" not in command((image,))


EDGE_TPU = load_specs()["compile-tflite-to-edgetpu-tflite"]
FLOAT = {"edgetpu": {"refusal": "Model not quantized: quantize it to full-integer int8 first"}}
INTEGER = {"edgetpu": {"refusal": None}}
CUSTOM = {"edgetpu": {"refusal": "Encountered unresolved custom op: Foo (operator 3)"}}


@pytest.mark.parametrize(
    ("format_", "extra", "recipe", "says"),
    [
        (Format.ONNX, {}, "float32", "Model not quantized"),
        (Format.KERAS, {}, "float16", "Choose recipe int8-full-integer"),
        (Format.TFLITE, FLOAT, "float32", "Model not quantized"),
        (Format.TFLITE, CUSTOM, "int8-full-integer", "unresolved custom op: Foo"),
        (Format.ONNX, {}, "int8-full-integer", None),
        (Format.TFLITE, FLOAT, "int8-full-integer", None),
        (Format.TFLITE, INTEGER, "float32", None),
    ],
)
def test_a_float_model_is_refused_before_the_edge_tpu_compiler(
    format_: Format, extra: dict[str, Any], recipe: str, says: str | None
) -> None:
    verdict = EDGE_TPU.check(ModelFacts(format_, (), (), extra=extra), {}, EDGE_TPU.options(recipe=recipe))

    assert verdict.can is (says is None)
    assert (says or "") in (verdict.reason or "")


@pytest.mark.parametrize("method", [None, "MinMax", "Percentile"])
@pytest.mark.parametrize("narrow", [True, False])
def test_where_products_saturate_every_way_keeps_seven_bits(method: str | None, narrow: bool) -> None:
    assert {way.narrow for way in ways(method, narrow=narrow)} == {narrow}


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"architecture": ["x86_64"], "numeric.dot_product": False}, True),
        ({"architecture": ["x86_64"], "numeric.dot_product": True}, False),
        ({"architecture": ["aarch64"], "numeric.dot_product": False}, False),
    ],
)
def test_only_x86_without_vnni_saturates(profile: dict[str, Any], expected: bool) -> None:
    assert saturates(profile) is expected


def test_entropy_falls_back_to_min_max() -> None:
    assert [way.method for way in ways("Entropy", narrow=False)] == ["Entropy", "Entropy", "MinMax"]


def test_an_unknown_calibration_method_names_the_known_ones() -> None:
    with pytest.raises(BadRequest, match="MinMax, Entropy, Percentile"):
        ways("Best", narrow=False)


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("RuntimeError: Lowering not found: aten.linalg_inv.default", "aten.linalg_inv"),
        ("Exporting the operator 'aten::fft_rfft' to ONNX opset version 17 is not supported", "aten::fft_rfft"),
        ("OperationDescription(domain='', operation_type='LSTM', version=14)", "LSTM"),
        ("error: 'tf.MatrixInverse' op is neither a custom op nor a flex op", "tf.MatrixInverse"),
        ("something else", None),
    ],
)
def test_the_operator_is_read_off_the_message(text: str, operator: str | None) -> None:
    found = diagnose(text)

    assert (found.operator if found else None) == operator


def test_a_tools_exception_becomes_a_failure_with_evidence() -> None:
    with pytest.raises(ConversionFailed) as caught, tool_call("numpy"):
        raise RuntimeError("Lowering not found: aten.foo\x1b[31m")

    assert caught.value.evidence["operator"] == "aten.foo"
    assert caught.value.evidence["tool"] == "numpy"
    assert "\x1b" not in caught.value.message


def test_a_tool_out_of_memory_is_not_a_refused_model() -> None:
    with pytest.raises(ToolOutOfMemory), tool_call("numpy"):
        raise RuntimeError("std::bad_alloc")


@pytest.mark.parametrize(
    "given",
    [
        ModelFacts(Format.ONNX, (), (), operators={"QuantizeLinear": 3}),
        ModelFacts(Format.TFLITE, (TensorSpec("x", "int8", (1, 8), 0.1, 0),), ()),
    ],
    ids=["ONNX with QDQ pairs", "TFLite with an int8 input"],
)
def test_what_is_quantized_is_not_quantized_once_more(given: ModelFacts) -> None:
    specs = load_specs()
    quantize, compile_ = specs[f"quantize-{given.format}-int8-static"], specs["compile-onnx-to-ort"]

    verdict = quantize.verdict(given, {}, quantize.options())

    assert not verdict.can
    assert "quantized already" in (verdict.reason or "")
    assert compile_.verdict(given, {}, compile_.options()).can
    assert quantize.verdict(facts("Conv"), {}, quantize.options()).can
