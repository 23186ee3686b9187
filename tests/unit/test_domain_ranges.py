"""What the farm feeds of its own accord respects the ranges that inspection found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.domain.facts import Format, ModelFacts
from farm.domain.inputs import parse_input
from farm.domain.wanted import Submitted
from tests.domain_world import IMAGE, SCORES, model, planned

RANGES = {"image": [0.0, 255.0]}
FACTS = ModelFacts(Format.ONNX, (IMAGE,), (SCORES,), extra={"ranges": RANGES})


def told(submitted: Submitted) -> dict[str, object]:
    steps = planned(submitted, recipes=("float32",)).steps.values()
    return {step.kind: step.options["ranges"] for step in steps}


@pytest.mark.parametrize("data", [False, True])
def test_every_step_is_told_the_ranges(data: bool) -> None:
    """References, converters and measurements make what they feed themselves."""
    found = told(model(data=data, facts=FACTS))

    assert found.keys() >= {"reference", "convert", "compare", "measure"}
    assert all(ranges == RANGES for ranges in found.values())


@pytest.mark.parametrize("own", [{}, {"ranges": {"image": [0.0, 1.0]}}])
def test_ranges_that_the_user_gives_reach_every_step(own: dict[str, object]) -> None:
    """Given an ONNX file, which has no place for them; and a model that declares others itself."""
    facts = replace(FACTS, extra=own)
    given = (parse_input(f"{IMAGE.with_shape((1, 3, 32, 32))} in 0..255"),)

    found = told(replace(model(data=False, facts=facts), given=given))

    assert all(ranges == RANGES for ranges in found.values())


def test_a_model_without_ranges_has_none() -> None:
    assert set(map(str, told(model(data=False)).values())) == {"None"}
