"""A model's facts as the terminal shows them."""

from __future__ import annotations

import pytest

from farm.cli.facts import facts_json, print_facts
from farm.domain.codec import encode
from farm.domain.facts import Format, ModelFacts
from farm.wire.jobs import ModelView, TargetView
from tests.edgetpu_models import FLOAT32, Op, Tensor, tflite
from workers.edgetpu.predict import predict

CORAL = TargetView(
    name="coral-usb", title="Coral", architecture="aarch64", runtimes=["edgetpu"], live_hosts=[], verified=False
)


def view(model: bytes) -> ModelView:
    facts = ModelFacts(format=Format.TFLITE, inputs=(), outputs=(), extra={"edgetpu": predict(model).as_facts()})
    return ModelView(model="m", digest="0" * 64, state="inspected", facts=encode(facts))


def test_a_model_that_is_refused_whole_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Given three float operators; then the reason is told once to a reader, and of each operator to a program."""
    floats = [Tensor((1, 4), FLOAT32)] * 4
    refused = view(tflite(floats, [Op("RELU", (at,), (at + 1,)) for at in range(3)]))
    print_facts(refused, CORAL)

    assert capsys.readouterr().out.count("Model not quantized") == 1
    assert len(facts_json(refused, CORAL)["edgetpu"]["operators"]) == 3


def test_operators_on_the_cpu_are_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    bytes_ = [Tensor((1, 4))] * 4
    print_facts(view(tflite(bytes_, [Op(k, (at,), (at + 1,)) for at, k in enumerate(("RELU", "ELU", "ABS"))])), CORAL)

    shown = capsys.readouterr().out
    assert "predicted: 1 of 3 operators mapped" in shown
    assert "1 ELU: Operation not supported" in shown
    assert "2 ABS: Operation not supported" in shown


def test_a_model_that_is_no_tflite_yet_is_told_the_way_to_an_edge_tpu(capsys: pytest.CaptureFixture[str]) -> None:
    facts = ModelFacts(format=Format.ONNX, inputs=(), outputs=())
    source = ModelView(model="m", digest="0" * 64, state="inspected", facts=encode(facts))

    print_facts(source, CORAL)
    told = capsys.readouterr().out
    assert "no prediction of a model of format onnx" in told
    assert "farm submit MODEL -t coral-usb -r litert --recipe int8-full-integer" in told

    print_facts(source, CORAL.model_copy(update={"runtimes": ["litert"]}))
    assert "edge tpu" not in capsys.readouterr().out
