"""What is decided about OpenVINO without it: names of tensors, ways to quantize, models that a recipe is for."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from farm.domain.errors import BadRequest
from farm.domain.facts import Format, ModelFacts
from workers.runtimes.openvino import named_ports
from workers.stages.openvino_models import summary_first
from workers.stages.quantize.products import needs_products
from workers.stages.quantize.quantize_openvino_ir_int8_static import QuantizeOpenVinoOptions, check, ways


@dataclass
class Port:
    """A stand-in for an input or output of a model."""

    own: str
    names: set[str] = field(default_factory=set)

    @property
    def node(self) -> SimpleNamespace:
        return SimpleNamespace(friendly_name=self.own)


def named(*ports: Port) -> list[str]:
    return [name for _, name in named_ports(ports)]


def test_a_tensor_goes_by_its_nodes_name_where_that_is_one_of_its_names() -> None:
    assert named(Port("image", {"a", "image", "z"})) == ["image"]


def test_of_several_names_the_same_is_taken_every_time() -> None:
    assert named(Port("Result_7", {"scores:0", "Identity", "b"})) == ["Identity"]


def test_tensors_without_a_name_of_their_own_go_by_place() -> None:
    assert named(Port("r"), Port("s", {"x"}), Port("t", {"x"})) == ["tensor_0", "tensor_1", "tensor_2"]


CONV, ENCODER = {"Convolution", "Relu"}, {"MatMul", "Softmax"}


@pytest.mark.parametrize("narrow", [True, False])
def test_weights_keep_seven_bits_just_where_products_saturate(narrow: bool) -> None:
    assert {way.narrow for way in ways(QuantizeOpenVinoOptions(), CONV, narrow=narrow)} == {narrow}


def test_layers_are_kept_in_float_only_where_there_are_convolutions() -> None:
    assert [way.float_layers for way in ways(QuantizeOpenVinoOptions(), CONV, narrow=False)] == [4, 0]
    assert [way.float_layers for way in ways(QuantizeOpenVinoOptions(), ENCODER, narrow=False)] == [0]


def test_attention_is_quantized_as_a_transformer() -> None:
    assert all(way.transformer for way in ways(QuantizeOpenVinoOptions(), ENCODER, narrow=False))
    assert not any(way.transformer for way in ways(QuantizeOpenVinoOptions(), CONV, narrow=False))


@pytest.mark.parametrize("fast", [True, False])
def test_the_exact_bias_correction_is_a_choice(fast: bool) -> None:
    found = ways(QuantizeOpenVinoOptions(fast_bias_correction=fast), CONV, narrow=False)
    assert {way.fast_bias_correction for way in found} == {fast}
    assert len({way.name for way in found}) == len(found)


def test_an_unknown_preset_is_refused_before_and_while_running() -> None:
    options = QuantizeOpenVinoOptions(preset="best")
    assert "mixed, performance" in (check(ModelFacts(Format.ONNX, (), ()), {}, options).reason or "")
    with pytest.raises(BadRequest, match="mixed, performance"):
        ways(options, CONV, narrow=False)


@pytest.mark.parametrize(
    "operator",
    ["MatMul", "Gemm", "aten.linear.default", "aten::linear", "FULLY_CONNECTED", "BATCH_MATMUL", "Dense", "aten.mm"],
)
def test_matrix_products_are_known_in_every_format(operator: str) -> None:
    assert needs_products(ModelFacts(Format.ONNX, (), (), {"Conv": 3, operator: 1}), "int4-weights", "OpenVINO").can


@pytest.mark.parametrize("operator", ["Conv", "aten.upsample_bilinear2d.vec", "RESIZE_BILINEAR", "Add"])
def test_a_model_without_matrix_products_is_refused(operator: str) -> None:
    verdict = needs_products(ModelFacts(Format.ONNX, (), (), {operator: 1}), "int4-weights", "OpenVINO")
    assert not verdict.can
    assert operator in (verdict.reason or "")


def test_a_failure_begins_with_the_operators_and_keeps_the_details() -> None:
    rule = "-- No conversion rule found for operations: acme.Foo"
    text = f"Check failed\n-- ReduceMean-17 with a message: …\nSummary:\n{rule}\n"
    told = summary_first(text)
    assert told.startswith(rule)
    assert "ReduceMean-17" in told
    assert summary_first("Check failed") == "Check failed"
