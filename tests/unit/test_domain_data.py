"""The user's samples: split by their values, refused when too few or on both sides, called poor when they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.data import (
    ENOUGH_ALONE,
    ENOUGH_BESIDE,
    Part,
    data_errors,
    data_free_note,
    data_notes,
    reports,
    sample_digests,
    split,
)
from farm.domain.facts import TensorSpec
from farm.domain.preprocessing import declared, read_preprocessing, value_ranges

X = (TensorSpec("x", "float32", (1, 4)),)


def arrays(*rows: str, **more: Any) -> dict[str, Any]:
    return {"x": {"dtype": "float32", "shape": [len(rows), 4], "rows": list(rows), "constant": False, **more}}


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"{number:016x}" for number in range(start, start + count)]


@given(st.lists(st.sampled_from(numbered(40)), max_size=80), st.booleans())
def test_every_sample_has_one_part_and_equal_ones_the_same(digests: list[str], reports: bool) -> None:
    found = split(digests, reports=reports)

    assert sorted(found.calibration + found.selection + found.report) == list(range(len(digests)))
    sides = [{digests[row] for row in found.rows(part)} for part in Part]
    assert not any(one & other for at, one in enumerate(sides) for other in sides[:at])
    assert reports or not found.report


@given(st.integers(ENOUGH_ALONE, 200), st.randoms())
def test_shares_are_a_half_and_two_quarters_in_any_order(count: int, chance: Any) -> None:
    digests = numbered(count)
    chance.shuffle(digests)
    found = split(digests, reports=True)

    assert abs(len(found.calibration) - count / 2) <= 1
    assert min(len(found.selection), len(found.report)) >= count // 4


def test_the_order_of_a_file_does_not_change_who_reports() -> None:
    digests = numbered(20)
    forth, back = split(digests, reports=True), split(digests[::-1], reports=True)

    assert {digests[row] for row in forth.report} == {digests[::-1][row] for row in back.report}


def test_sixteen_samples_suffice_and_fewer_are_refused() -> None:
    assert data_errors(arrays(*numbered(ENOUGH_ALONE)), None, X) == []
    (refused,) = data_errors(arrays(*numbered(ENOUGH_ALONE - 1)), None, X)

    assert "15 different samples; 16 are needed" in refused.message


def test_equal_samples_do_not_make_up_the_number() -> None:
    (refused,) = data_errors(arrays(*numbered(ENOUGH_BESIDE - 1), *numbered(4)), arrays(*numbered(50, 100)), X)

    assert "7 different samples; 8 are needed." in refused.message


def test_samples_on_both_sides_are_refused() -> None:
    (refused,) = data_errors(arrays(*numbered(20)), arrays(*numbered(20, 18)), X)

    assert refused.message.startswith("2 samples are both calibration and evaluation data")


def test_a_sample_is_the_values_of_all_inputs() -> None:
    specs = (*X, TensorSpec("mask", "float32", (1, 4)))
    one = {"x": {"rows": ["a", "a"]}, "mask": {"rows": ["b", "c"]}}

    assert len(set(sample_digests(one, specs))) == 2


def test_data_without_digests_is_not_judged() -> None:
    big = {"x": {"dtype": "float32", "shape": [10**6, 4]}}

    assert data_errors(big, big, X) == []
    assert data_notes(big, X, what="calibration") == []


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (arrays(*numbered(20)), "20 different samples, which is few"),
        (arrays(*numbered(70), *numbered(3)), "3 of 73 calibration samples repeat another one"),
        (arrays(*numbered(70), constant=True, minimum=0.0), "'x' holds one value only, 0.0"),
        (arrays(*numbered(70)) | {"labels": {"classes": 1}}, "the same class"),
    ],
)
def test_poor_data_is_said(found: dict[str, Any], says: str) -> None:
    (note,) = data_notes(found, X, what="calibration")

    assert says in note


def test_values_out_of_what_the_model_declares_are_said() -> None:
    found = arrays(*numbered(70), minimum=0.0, maximum=255.0)

    assert data_notes(found, X, what="calibration", ranges={"x": (0.0, 255.0)}) == []
    (note,) = data_notes(found, X, what="calibration", ranges={"x": (0.0, 1.0)})
    assert note == "The calibration array 'x' holds values from 0 to 255; 0 to 1 is declared."


def test_too_few_samples_come_with_the_recipes_that_need_none() -> None:
    (refused,) = data_errors(arrays(*numbered(3)), None, X)

    assert refused.remedy
    assert "float16, " in refused.remedy
    assert "int8-static" not in refused.remedy


def test_samples_are_kept_for_the_report_when_nothing_else_reports_and_they_suffice() -> None:
    assert reports(arrays(*numbered(ENOUGH_ALONE)), X, evaluated=False)
    assert not reports(arrays(*numbered(ENOUGH_ALONE - 1)), X, evaluated=False)
    assert not reports(arrays(*numbered(ENOUGH_ALONE)), X, evaluated=True)
    assert reports({"x": {"dtype": "float32", "shape": [10**6, 4]}}, X, evaluated=False)


def test_classes_that_no_label_reaches_are_said() -> None:
    found = arrays(*numbered(70)) | {"labels": {"classes": 3}}

    assert data_notes(found, X, what="evaluation", classes=10) == [
        "The labels of the evaluation data cover 3 of 10 classes."
    ]
    assert data_notes(found, X, what="evaluation", classes=3) == []
    assert data_notes(found, X, what="evaluation") == []


def test_a_recipe_that_rests_on_poor_calibration_names_what_needs_none() -> None:
    poor = data_notes(arrays(*numbered(20)), X, what="calibration")
    elsewhere = data_notes(arrays(*numbered(20)), X, what="evaluation")

    assert data_free_note("int8-static", poor) == [
        "int8-static rests on that calibration data; int8-dynamic needs none, so compare the two."
    ]
    assert data_free_note("int8-static", elsewhere) == []
    assert data_free_note("float16", poor) == []
    assert data_free_note("int8-full-integer", poor) == []


def test_a_declared_preprocessing_says_between_which_values_the_input_lies() -> None:
    told = declared(read_preprocessing({"input": "x", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.25]}))
    ranges = value_ranges(told)

    assert ranges["x"] == pytest.approx((-2.0, 2.0))
    (note,) = data_notes(arrays(*numbered(70), minimum=0.0, maximum=255.0), X, what="calibration", ranges=ranges)
    assert "from 0 to 255; -2 to 2 is declared" in note
    assert value_ranges(None) == {}


def test_good_data_has_no_note() -> None:
    assert data_notes(arrays(*numbered(70)), X, what="calibration") == []
