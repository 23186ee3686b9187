"""Whether an application written for one artifact runs with another."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from farm.domain.compat import compare, is_compatible

IMAGE = {"name": "image", "dtype": "float32", "shape": [1, 3, 8, 8], "scale": None, "zero_point": None}
MASK = {"name": "mask", "dtype": "bool", "shape": [1, 8], "scale": None, "zero_point": None}
SCORES = {"name": "scores", "dtype": "float32", "shape": [1, 5], "scale": None, "zero_point": None}


def result(**changes: Any) -> dict[str, Any]:
    """Make a result; `image`, `mask` and `scores` change that tensor."""
    tensors = {
        name: spec | changes.pop(name, {}) for name, spec in (("image", IMAGE), ("mask", MASK), ("scores", SCORES))
    }
    made = {
        "target_runtime": "onnxruntime",
        "artifact": {
            "format": "onnx",
            "inputs": [tensors["image"], tensors["mask"]],
            "outputs": [tensors["scores"]],
        },
        "numerics": {"sqnr_db": 60.0},
    }
    return copy.deepcopy(made | changes)


def test_equal_contracts_run_alike() -> None:
    assert compare(result(), result()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": {"name": "x"}}, "is called x"),
        ({"image": {"dtype": "uint8"}}, "float32 became uint8"),
        ({"image": {"shape": [1, 8, 8, 3]}}, "the axes are in another order (layout)"),
        ({"image": {"shape": [1, 3, 16, 16]}}, "[1, 3, 8, 8] became [1, 3, 16, 16]"),
        ({"scores": {"dtype": "int8", "scale": 0.5, "zero_point": -3}}, "became scale 0.5, zero point -3"),
        ({"target_runtime": "litert"}, "another library"),
        ({"preprocessing": {"mean": [0.5]}}, "None became {'mean': [0.5]}"),
        ({"labels": ["cat"]}, "None became ['cat']"),
    ],
)
def test_what_an_application_would_stumble_over_breaks(change: dict[str, Any], says: str) -> None:
    found = compare(result(), result(**change))

    assert not is_compatible(found)
    assert any(says in difference.message for difference in found if difference.breaks)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": {"shape": ["batch", 3, 8, 8]}}, "takes other sizes too"),
        ({"numerics": {"sqnr_db": 12.0}}, "60.0 dB to the source became 12.0 dB"),
        ({"numerics": None}, "not known"),
    ],
)
def test_what_it_only_has_to_know_is_said(change: dict[str, Any], says: str) -> None:
    (found,) = compare(result(), result(**change))

    assert is_compatible([found])
    assert says in found.message


def test_other_order_and_other_number_of_inputs_break() -> None:
    swapped, fewer = result(), result()
    swapped["artifact"]["inputs"].reverse()
    fewer["artifact"]["inputs"].pop()

    assert [d.message for d in compare(result(), swapped)] == ["the inputs come in another order: mask, image"]
    assert "2 inputs became 1" in [d.message for d in compare(result(), fewer)]
