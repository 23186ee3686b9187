"""Dataclasses to JSON and back: nothing is lost, one text per value, wrong shapes are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.artifact import Artifact, Binding, Contract, FileRef
from farm.domain.codec import canonical, decode, digest, encode
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.plan import Plan
from tests.domain_world import planned


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    count: int
    axes: tuple[int | str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    inner: Inner
    ratio: float = 0.5
    colour: Colour = Colour.RED
    pair: tuple[str, int] | None = None
    by_name: Mapping[str, Inner] | None = None
    anything: Any = None
    is_ready: bool = False


names = st.text(max_size=8)
sizes = st.integers(0, 1 << 53)
shapes = st.none() | st.lists(st.integers(1, 4096) | st.text(min_size=1, max_size=4), max_size=5).map(tuple)
floats = st.floats(allow_nan=False, allow_infinity=False)
specs = st.builds(TensorSpec, names, names, shapes, st.none() | floats, st.none() | st.integers(-128, 255))
refs = st.builds(FileRef, names, names, sizes)
json_values = st.recursive(
    st.none() | st.booleans() | sizes | floats | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
facts = st.builds(
    ModelFacts,
    st.sampled_from(Format),
    st.lists(specs, max_size=3).map(tuple),
    st.lists(specs, max_size=3).map(tuple),
    st.dictionaries(names, sizes, max_size=3),
    parameters=st.none() | sizes,
    extra=st.dictionaries(names, json_values, max_size=3),
)
bindings = st.builds(Binding, specs, specs, st.none() | st.permutations(range(4)).map(tuple))
contracts = st.builds(
    Contract, st.lists(bindings, max_size=2).map(tuple), st.lists(bindings, max_size=2).map(tuple), st.just(("a", "b"))
)
artifacts = st.builds(Artifact, st.lists(refs, min_size=1, max_size=3).map(tuple), st.just(True))


@given(facts | contracts | artifacts | specs)
def test_what_was_encoded_is_decoded_to_the_same_value(value: Any) -> None:
    sent = json.loads(json.dumps(encode(value)))

    assert decode(type(value), sent) == value
    assert encode(decode(type(value), sent)) == encode(value)


@given(json_values)
def test_the_canonical_text_is_that_of_equal_values_alone(value: Any) -> None:
    text = canonical(value)

    assert json.loads(text) == value
    assert canonical(json.loads(text)) == text
    assert b"\n" not in text


@given(st.dictionaries(names, json_values, min_size=2, max_size=4))
def test_the_order_of_keys_does_not_change_a_digest(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))

    assert digest(backwards) == digest(value)
    assert digest([value]) != digest(value)


def test_a_whole_plan_survives_storage() -> None:
    plan = planned()

    assert decode(Plan, json.loads(canonical(plan))) == plan


def test_numbers_that_json_has_not_are_refused() -> None:
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON"):
            canonical({"x": number})


def test_defaults_fill_what_is_missing_and_whole_numbers_are_floats() -> None:
    found = decode(Outer, {"name": "x", "inner": {"count": 3, "axes": [1, "N"]}, "ratio": 2})

    assert found == Outer("x", Inner(3, (1, "N")), 2.0)
    assert isinstance(found.ratio, float)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"inner": {"count": 1}}, "name"),
        ({"name": "x", "inner": {"count": 1}, "more": 1}, "unknown field more"),
        ({"name": "x", "inner": {"count": "1"}}, "'1' is not int"),
        ({"name": "x", "inner": {"count": True}}, "True is not int"),
        ({"name": "x", "inner": {"count": 1.5}}, "1.5 is not int"),
        ({"name": 1, "inner": {"count": 1}}, "1 is not str"),
        ({"name": "x", "inner": 7}, "Outer"),
        ({"name": "x", "inner": {"count": 1}, "colour": "blue"}, "blue"),
        ({"name": "x", "inner": {"count": 1}, "pair": ["a"]}, "pair|fits none"),
        ({"name": "x", "inner": {"count": 1}, "pair": "ab"}, "fits none"),
        ({"name": "x", "inner": {"count": 1}, "by_name": [1]}, "fits none"),
        ({"name": "x", "inner": {"count": 1}, "is_ready": 1}, "1 is not bool"),
        ({"name": "x", "inner": {"count": 1}, "ratio": "1"}, "'1' is not float"),
        ("text", "Outer"),
        (None, "Outer"),
        ([1, 2], "Outer"),
    ],
)
def test_values_of_another_shape_are_refused(wrong: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Outer, wrong)


def test_a_files_digest_is_its_own_and_a_trees_that_of_its_manifest() -> None:
    one, two = FileRef("b", "2" * 64, 2), FileRef("a", "1" * 64, 1)

    assert Artifact((one,)).digest == one.sha256
    assert Artifact((one,), is_tree=True).digest != one.sha256
    assert Artifact((one, two), is_tree=True).digest == Artifact((two, one), is_tree=True).digest
    assert Artifact((one, two), is_tree=True).size_bytes == 3
    renamed = FileRef("c", one.sha256, one.size_bytes)
    assert Artifact((renamed, two), is_tree=True).digest != Artifact((one, two), is_tree=True).digest
