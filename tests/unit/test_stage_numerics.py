"""Errors of outputs, sample by sample, equal the textbook formulas over all samples."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from farm.domain.verdict import numerics_failed
from workers.stages.compare.numerics import CAP_DB, OutputError, decibels, summarize

VALUES = st.floats(min_value=-1000, max_value=1000, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
BATCHES = hnp.arrays("float32", st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=VALUES)


def error_of(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> OutputError:
    error = OutputError()
    for one, other in zip(expected, actual, strict=True):
        error.add(one, other)
    return error


@given(BATCHES, st.data())
def test_accumulated_figures_are_those_of_the_whole(expected: np.ndarray[Any, Any], data: st.DataObject) -> None:
    actual = data.draw(hnp.arrays("float32", expected.shape, elements=VALUES))
    x, y = expected.astype("float64").ravel(), actual.astype("float64").ravel()
    noise, signal = np.sum((x - y) ** 2), np.sum(x**2)
    assume(noise > 0)
    assume(signal > 0)
    error = error_of(expected, actual)
    assert error.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-6)
    assert error.psnr_db == pytest.approx(10 * np.log10(np.max(np.abs(x)) ** 2 / np.mean((x - y) ** 2)), abs=1e-6)
    assert error.max_abs_error == pytest.approx(np.max(np.abs(x - y)))
    assert -1.0 <= error.cosine <= 1.0
    if np.any(y):
        assert error.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-9)


@given(BATCHES)
def test_identical_outputs_reach_the_cap(expected: np.ndarray[Any, Any]) -> None:
    error = error_of(expected, expected)
    assert (error.sqnr_db, error.psnr_db, error.max_abs_error) == (CAP_DB, CAP_DB, 0.0)
    assert error.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(("noise", "db"), [(1e-9, 120.0), (1e-6, 60.0), (1e-3, 0.0), (1.0, -60.0)])
def test_an_output_that_is_zero_is_held_against_an_absolute_error(noise: float, db: float) -> None:
    """Given zeros; then rounding is no wrong function, and values where none belong are one."""
    error = error_of(np.zeros((2, 3)), np.full((2, 3), noise))
    assert (error.sqnr_db, error.psnr_db, error.cosine) == (pytest.approx(db), pytest.approx(db), 0.0)
    assert numerics_failed("float32", summarize({"zeros": error}, 2)) == (noise > 1e-5)


def test_a_small_signal_is_a_signal() -> None:
    """Given values of 1e-6; then as large an error is none of rounding."""
    error = error_of(np.full((1, 3), 1e-6), np.zeros((1, 3)))
    assert error.sqnr_db == pytest.approx(0.0)


def test_zeros_that_are_zeros_reach_the_cap() -> None:
    assert error_of(np.zeros((1, 3)), np.zeros((1, 3))).sqnr_db == CAP_DB


@given(st.floats(min_value=1e-300, max_value=1e300), st.floats(min_value=1e-300, max_value=1e300))
def test_decibels_stay_in_range(signal: float, noise: float) -> None:
    assert -CAP_DB <= decibels(signal, noise) <= CAP_DB
    assert decibels(signal, noise) == pytest.approx(-decibels(noise, signal))


def test_the_worst_output_speaks_for_all() -> None:
    good, bad = error_of(np.ones((2, 3)), np.ones((2, 3)) * 1.001), error_of(np.ones((2, 3)), np.ones((2, 3)) * 1.1)
    numerics = summarize({"good": good, "bad": bad}, 2)
    assert numerics["worst_output"] == "bad"
    assert numerics["sqnr_db"] == pytest.approx(20.0)
    assert numerics["max_abs_error"] == pytest.approx(0.1)
    assert [entry["name"] for entry in numerics["per_output"]] == ["good", "bad"]


def test_integer_and_boolean_outputs_count_as_numbers() -> None:
    error = error_of(np.array([[True, False]]), np.array([[1.0, 0.0]]))
    assert error.sqnr_db == CAP_DB
    assert not math.isnan(error.cosine)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_exact(value: float) -> None:
    for expected, actual in (([[1.0, value]], [[1.0, 2.0]]), ([[1.0, 2.0]], [[1.0, value]])):
        error = error_of(np.array(expected), np.array(actual))
        assert (error.sqnr_db, error.psnr_db, error.cosine) == (-CAP_DB, -CAP_DB, 0.0)
        assert math.isfinite(error.max_abs_error)
    assert decibels(1.0, value) == -CAP_DB
    assert decibels(math.nan, 0.0) == -CAP_DB


def test_the_same_infinity_in_the_same_place_is_equal_and_no_nan_is() -> None:
    mask = np.array([[1.0, -math.inf]])
    assert error_of(mask, mask).sqnr_db == CAP_DB
    assert error_of(mask, -mask).sqnr_db == -CAP_DB
    assert error_of(mask, np.array([[1.1, -math.inf]])).sqnr_db == pytest.approx(20.0)
    assert error_of(mask * np.nan, mask * np.nan).sqnr_db == -CAP_DB


def test_an_output_without_elements_has_no_ratio_and_leaves_the_others_theirs() -> None:
    empty, good = error_of(np.ones((2, 0)), np.ones((2, 0))), error_of(np.ones((2, 3)), np.ones((2, 3)) * 1.1)

    alone, both = summarize({"boxes": empty}, 2), summarize({"boxes": empty, "scores": good}, 2)

    assert (alone["sqnr_db"], alone["psnr_db"], alone["cosine"], alone["elements"]) == (None, None, None, 0)
    assert both["per_output"][0]["sqnr_db"] is None
    assert (both["worst_output"], both["sqnr_db"], both["elements"]) == ("scores", pytest.approx(20.0), 6)
