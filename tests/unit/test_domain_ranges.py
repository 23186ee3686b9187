"""Samples that the farm makes itself respect the ranges that inspection found."""

from __future__ import annotations

from farm.domain.facts import Format, ModelFacts
from farm.domain.wanted import Submitted
from tests.domain_world import IMAGE, SCORES, model, planned

RANGES = {"image": [0.0, 255.0]}
FACTS = ModelFacts(Format.ONNX, (IMAGE,), (SCORES,), extra={"ranges": RANGES})


def told(submitted: Submitted) -> list[object]:
    steps = planned(submitted, recipes=("float32",)).steps.values()
    return [step.options["ranges"] for step in steps if step.kind == "reference"]


def test_a_reference_without_data_is_told_the_ranges() -> None:
    assert told(model(data=False, facts=FACTS)) == [RANGES]


def test_data_of_the_user_and_a_model_without_ranges_need_none() -> None:
    assert {*told(model(facts=FACTS)), *told(model(data=False))} == {None}
