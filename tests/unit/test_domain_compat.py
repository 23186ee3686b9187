"""Whether an application written for one artifact runs with another."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
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
        ({"preprocessing": {"mean": [0.5]}}, "was not declared and is: {'mean': [0.5]}"),
        ({"labels": ["cat"]}, "0 class names became 1"),
        ({"numerics": {"sqnr_db": 12.0}}, "60.0 dB to the source became 12.0 dB"),
        ({"numerics": {"sqnr_db": 0.0}}, "60.0 dB to the source became 0.0 dB"),
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


@pytest.mark.parametrize(
    ("change", "does"),
    [
        ({"image": {"name": "x"}}, "use the name x"),
        ({"image": {"dtype": "uint8"}}, "convert to uint8"),
        ({"image": {"shape": [1, 8, 8, 3]}}, "transpose by [0, 2, 3, 1]"),
        ({"image": {"dtype": "int8", "scale": 0.5, "zero_point": -3}}, "feed round(value / 0.5) + -3"),
        ({"scores": {"dtype": "int8", "scale": 0.5, "zero_point": -3}}, "read (value - -3) * 0.5"),
        ({"target_runtime": "litert"}, "load it with litert"),
    ],
)
def test_what_breaks_comes_with_what_the_application_would_do(change: dict[str, Any], does: str) -> None:
    found = compare(result(), result(**change))

    assert does in [difference.remedy for difference in found if difference.breaks]


def test_the_transposition_that_is_told_makes_one_of_the_other() -> None:
    (found,) = compare(result(image={"shape": [1, 4, 5, 6]}), result(image={"shape": [1, 6, 4, 5]}))
    axes = [int(axis) for axis in found.remedy.removeprefix("transpose by [").removesuffix("]").split(",")]

    assert np.zeros((1, 4, 5, 6)).transpose(axes).shape == (1, 6, 4, 5)


def test_keys_of_the_preprocessing_are_told_apart() -> None:
    one, other = ({"preprocessing": {"mean": [0.5], "layout": layout}} for layout in ("nchw", "nhwc"))
    (found,) = compare(result(**one), result(**other))

    assert (found.subject, found.message) == ("preprocessing layout", "nchw became nhwc")


def test_class_names_in_another_order_break() -> None:
    (found,) = compare(result(labels=["cat", "dog"]), result(labels=["dog", "cat"]))

    assert found.message == "class 0 was 'cat' and is 'dog'"


def test_of_a_bare_file_nothing_is_claimed_that_is_not_known() -> None:
    bare = {"artifact": result()["artifact"]}

    assert is_compatible(compare(result(preprocessing={"mean": [0.5]}, labels=["cat"]), bare))
    other = {"artifact": {**result()["artifact"], "format": "tflite"}}
    assert not is_compatible(compare(result(), other))


@pytest.mark.parametrize(("theirs", "breaks"), [(30.0, None), (20.0, None), (15.0, None), (14.6, False), (14.0, True)])
def test_who_lives_with_a_rough_file_lives_with_one_as_rough(theirs: float, breaks: bool | None) -> None:
    found = compare(result(numerics={"sqnr_db": 15.0}), result(numerics={"sqnr_db": theirs}))

    assert [difference.breaks for difference in found] == ([] if breaks is None else [breaks])
