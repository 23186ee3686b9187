"""What the farm feeds of its own accord respects the ranges that inspection found."""

from __future__ import annotations

import pytest

from farm.domain.facts import Format, ModelFacts
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


def test_a_model_without_ranges_has_none() -> None:
    assert set(map(str, told(model(data=False)).values())) == {"None"}
