"""Inputs: what users write, what files leave open, what data must hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import BadData, BadRequest, OpenAxis
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.inputs import DTYPES, GivenInput, batch_fixed, check_arrays, fix_inputs, parse_input, within

IMAGE = TensorSpec("image", "float32", ("batch", 3, 224, 224))
IDS = TensorSpec("ids", "int64", (1, "tokens"))


@given(
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=12),
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 10_000), max_size=5),
)
def test_what_a_spec_prints_is_read_as_the_same_spec(name: str, dtype: str, shape: list[int]) -> None:
    spec = TensorSpec(name, dtype, tuple(shape))

    assert parse_input(str(spec)) == GivenInput(spec)


@given(st.floats(-1e38, 1e38), st.floats(0, 1e38), st.sampled_from(["x", "a in 0..1", "x:float32[1] in 0..1"]))
def test_a_range_that_an_input_prints_is_read_as_the_same_range(low: float, more: float, name: str) -> None:
    said = GivenInput(TensorSpec(name, "float32", (1, 3)), (low, low + more))

    assert parse_input(str(said)) == said


@pytest.mark.parametrize("name", ["x", "serving_default_x:0", "scope/x:0", "a:b:c", "x[0]"])
def test_a_name_may_hold_colons_slashes_and_brackets(name: str) -> None:
    assert parse_input(f" {name}:float32[1, 3] ") == GivenInput(TensorSpec(name, "float32", (1, 3)))


@pytest.mark.parametrize(
    ("text", "dtype", "span"),
    [
        ("in 0..255", "uint8", (0, 255)),
        ("in -1..1", "float32", (-1, 1)),
        ("in  -2.1 .. 2.64 ", "float16", (-2.1, 2.64)),
        ("in 1e-3..1E3", "float64", (0.001, 1000)),
        ("in 0...5", "float32", (0, 0.5)),
        ("in 0..1e12", "int64", (0, 1e12)),
        ("in 7..7", "int32", (7, 7)),
    ],
)
def test_an_input_may_say_which_values_it_takes(text: str, dtype: str, span: tuple[float, float]) -> None:
    assert parse_input(f"x:{dtype}[1,3] {text}") == GivenInput(TensorSpec("x", dtype, (1, 3)), span)


def test_given_ranges_take_the_place_of_the_models_own() -> None:
    facts = ModelFacts(Format.ONNX, (IMAGE, IDS), (), extra={"ranges": {"ids": [0, 9], "image": [0, 1]}, "a": 1})
    said = [parse_input("image:float32[1,3,224,224] in -1..1"), parse_input("ids:int64[1,8]")]

    assert within(facts, said).extra == {"ranges": {"ids": [0, 9], "image": (-1.0, 1.0)}, "a": 1}
    assert within(facts, said[1:]) is facts


def test_what_preprocessing_leads_to_stands_where_nobody_says_a_range() -> None:
    facts = ModelFacts(Format.ONNX, (IMAGE, IDS), (), extra={"ranges": {"ids": [0, 9]}})
    said = [parse_input("image:float32[1,3,224,224] in -1..1")]
    prepared = {"image": (-2.1, 2.6), "ids": (0.0, 255.0)}

    assert within(facts, [], prepared=prepared).extra["ranges"] == {"image": (-2.1, 2.6), "ids": [0, 9]}
    assert within(facts, said, prepared=prepared).extra["ranges"] == {"image": (-1.0, 1.0), "ids": [0, 9]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "NAME:DTYPE"),
        ("x:float32", "NAME:DTYPE"),
        (":float32[1]", "NAME:DTYPE"),
        ("x:float33[1]", "'float33'; known are float32"),
        ("x:float32[1,N]", "not a positive integer"),
        ("x:float32[0]", "not a positive integer"),
        ("x:float32[-1]", "not a positive integer"),
        ("x:float32[1,,3]", "not a positive integer"),
        ("x:float32[1.5]", "not a positive integer"),
        ("x:float32[²]", "not a positive integer"),
        ("", "NAME:DTYPE"),
        ("x:float32[1]in 0..1", "NAME:DTYPE"),
        ("x:float32[1] in", "NAME:DTYPE"),
        ("x:float32[1] in 1..0", r"'1..0', which is not LOW..HIGH, e.g. 0..255"),
        ("x:float32[1] in 0-1", "not LOW..HIGH"),
        ("x:float32[1] in 0..inf", "not LOW..HIGH"),
        ("x:float32[1] in nan..1", "not LOW..HIGH"),
        ("x:float32[1] in 0..", "not LOW..HIGH"),
        ("x:float16[1] in 0..70000", "where float16 has no values"),
        ("x:uint8[1] in -9..-1", "where uint8 has no values"),
        ("x:int8[1] in 128..200", "where int8 has no values"),
        ("x:int32[1] in 0.2..0.8", "where int32 has no values"),
        ("x:bool[1] in 0..1", "where bool has no values"),
    ],
)
def test_other_forms_are_refused_with_the_text(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words.replace("[", "\\[")):
        parse_input(text)


def test_an_open_leading_axis_becomes_one_and_is_said() -> None:
    fixed, errors = fix_inputs([IMAGE], [])

    assert errors == []
    assert fixed == (TensorSpec("image", "float32", (1, 3, 224, 224)),)
    assert batch_fixed([IMAGE], fixed) == ("input image: axis 0 (batch) fixed at 1",)


def test_a_given_size_wins() -> None:
    given_spec = TensorSpec("image", "float32", (8, 3, 224, 224))

    fixed, errors = fix_inputs([IMAGE], [given_spec])

    assert (fixed, errors) == ((given_spec,), [])
    assert batch_fixed([IMAGE], fixed) == ("input image: axis 0 (batch) fixed at 8",)


def test_another_open_axis_is_refused_naming_axis_and_flag() -> None:
    _, (error,) = fix_inputs([IDS], [])

    assert isinstance(error, OpenAxis)
    assert "'ids'" in error.message
    assert "1 (tokens)" in error.message
    assert error.remedy == "Add --input 'ids:int64[1,SIZE]' with a number for SIZE."


@pytest.mark.parametrize("declared", [TensorSpec("x", "float32", None), TensorSpec("x", "unknown", (1, 2))])
def test_what_the_file_does_not_say_must_be_given(declared: TensorSpec) -> None:
    _, (error,) = fix_inputs([declared], [])
    fixed, none = fix_inputs([declared], [TensorSpec("x", "float32", (1, 2))])

    assert isinstance(error, OpenAxis)
    assert "--input 'x:" in (error.remedy or "")
    assert (fixed, none) == ((TensorSpec("x", "float32", (1, 2)),), [])


def test_all_reasons_come_at_once() -> None:
    wrong = [TensorSpec("imgae", "float32", (1,)), TensorSpec("image", "float32", (1, 4, 224, 224))]

    _, errors = fix_inputs([IMAGE, IDS], wrong)

    told = " ".join(error.message for error in errors)
    assert len(errors) == 3
    assert "no input 'imgae'; its inputs are ids, image" in told
    assert "image:float32[1,4,224,224] does not fit" in told
    assert "tokens" in told


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (TensorSpec("image", "int8", (1, 3, 224, 224)), "is float32 in the file, not int8"),
        (TensorSpec("image", "float32", (1, 3, 224)), "does not fit"),
        (TensorSpec("image", "float32", ()), "does not fit"),
    ],
)
def test_a_given_spec_must_fit_the_file(override: TensorSpec, words: str) -> None:
    _, (error,) = fix_inputs([IMAGE], [override])

    assert isinstance(error, BadRequest)
    assert words in error.message


def test_quantization_parameters_of_the_file_are_kept() -> None:
    declared = TensorSpec("x", "int8", ("N", 2), 0.5, 3)

    fixed, _ = fix_inputs([declared], [TensorSpec("x", "int8", (4, 2))])

    assert fixed == (TensorSpec("x", "int8", (4, 2), 0.5, 3),)


def test_a_scalar_input_stays_a_scalar() -> None:
    assert fix_inputs([TensorSpec("threshold", "float32", ())], []) == ((TensorSpec("threshold", "float32", ()),), [])


def test_open_axes_have_no_static_shape() -> None:
    assert IDS.open_axes == (1,)
    for spec in (IDS, TensorSpec("x", "float32", None)):
        with pytest.raises(ValueError, match="open axes"):
            _ = spec.static_shape


FIXED = (TensorSpec("image", "float32", (1, 3, 8, 8)),)


def arrays(shape: list[int], dtype: str = "float32", **more: list[int]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"image": {"dtype": dtype, "shape": shape}}
    return found | {name: {"dtype": "int64", "shape": sizes} for name, sizes in more.items()}


@pytest.mark.parametrize("shape", [[20, 3, 8, 8], [20, 1, 3, 8, 8]])
def test_samples_come_with_or_without_the_batch_axis(shape: list[int]) -> None:
    assert check_arrays(arrays(shape), FIXED, what="calibration") == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "no array 'image'; it holds nothing"),
        ({"picture": {"dtype": "float32", "shape": [2, 3, 8, 8]}}, "it holds picture"),
        (arrays([20, 8, 8, 3]), "shape [20, 8, 8, 3]; (N,3,8,8) is needed"),
        (arrays([20]), "shape [20]"),
        (arrays([]), "shape []"),
        (arrays([20, 3, 8, 8], "uint8"), "dtype uint8; float32 is needed"),
        (arrays([0, 3, 8, 8]), "holds no sample"),
    ],
)
def test_data_that_does_not_fit_is_refused(found: dict[str, Any], words: str) -> None:
    (error,) = check_arrays(found, FIXED, what="calibration")

    assert isinstance(error, BadData)
    assert words in error.message
    assert "calibration" in error.message


def test_labels_are_needed_by_metrics_that_score_and_count_as_samples() -> None:
    (missing,) = check_arrays(arrays([20, 3, 8, 8]), FIXED, what="evaluation", needs_labels=True)
    (uneven,) = check_arrays(arrays([20, 3, 8, 8], labels=[19]), FIXED, what="evaluation", needs_labels=True)

    assert "no array 'labels'" in missing.message
    assert "image 20, labels 19" in uneven.message
    assert check_arrays(arrays([20, 3, 8, 8], labels=[20]), FIXED, what="evaluation", needs_labels=True) == []


def test_every_array_is_looked_at() -> None:
    two = (*FIXED, TensorSpec("mask", "bool", (1, 8)))

    errors = check_arrays(arrays([20, 3, 8, 9]), two, what="calibration")

    assert [("image" in e.message.split(";")[0], "mask" in e.message) for e in errors] == [(True, False), (False, True)]


def test_scalar_inputs_are_given_one_value_a_sample() -> None:
    scalar = (TensorSpec("threshold", "float32", ()),)

    assert check_arrays({"threshold": {"dtype": "float32", "shape": [20]}}, scalar, what="calibration") == []
    assert check_arrays({"threshold": {"dtype": "float32", "shape": []}}, scalar, what="calibration") != []
