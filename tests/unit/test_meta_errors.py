"""The error tree: drawn whole, one HTTP status each, every failure says who must act."""

from __future__ import annotations

import re

import pytest

from farm.api.problems import STATUS, status_of
from farm.domain import errors
from farm.domain.codec import decode, encode
from farm.domain.errors import Actor, Failure, FarmError

KINDS: set[type[FarmError]] = {FarmError, *FarmError.by_code.values()}
CLASSES = sorted(KINDS, key=lambda kind: kind.__name__)
_DRAWN = re.compile(r"^(?P<bars>[│ ├└─]*)(?P<name>[A-Z]\w+)\b(?P<told>.*)$")


def drawn() -> dict[str, tuple[str | None, str]]:
    """Read the drawing of the module's docstring: class name -> (parent, words beside it)."""
    found: dict[str, tuple[str | None, str]] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines()[2:]:
        if row := _DRAWN.match(line):
            depth = len(row["bars"]) // 4
            parents[depth:] = [row["name"]]
            found[row["name"]] = (parents[depth - 1] if depth else None, row["told"].strip())
    return found


def test_the_drawing_lists_exactly_the_classes_under_their_parents() -> None:
    real = {kind.__name__: None if kind is FarmError else kind.__mro__[1].__name__ for kind in CLASSES}

    assert {name: parent for name, (parent, _) in drawn().items()} == real


def test_the_drawing_says_of_each_class_what_it_means() -> None:
    assert [name for name, (_, told) in drawn().items() if not told and name != "FarmError"] == []


def test_every_class_is_found_by_its_code() -> None:
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FarmError)}

    assert defined - {FarmError} <= set(FarmError.by_code.values())
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in FarmError.by_code)


def test_a_code_can_not_be_taken_twice() -> None:
    with pytest.raises(TypeError, match="taken by CorruptModel"):
        type("Another", (FarmError,), {"code": "corrupt-model"})


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_an_http_status_that_fits_who_must_act(kind: type[FarmError]) -> None:
    status = status_of(kind("Something is wrong."))

    in_range = (400, 499) if kind.who_must_act in (Actor.SUBMITTER, Actor.TOOLCHAIN) else (500, 599)
    assert in_range[0] <= status <= in_range[1]


def test_the_table_of_statuses_names_only_errors_of_ours() -> None:
    assert set(STATUS) <= set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_being_sent(kind: type[FarmError]) -> None:
    error = kind("model.onnx is empty.", remedy="Send it again.", tool="onnx", exit=1)

    sent = decode(Failure, encode(error.failure))
    back = FarmError.from_failure(sent)

    assert back.failure == error.failure or kind is FarmError
    assert (back.message, back.remedy, back.evidence) == (error.message, error.remedy, error.evidence)
    assert str(back) == "model.onnx is empty."


def test_an_unknown_code_is_a_bug_of_ours() -> None:
    back = FarmError.from_failure(Failure("no-such-code", "What?", Actor.HOST, True))

    assert (back.code, back.who_must_act, back.retryable) == ("farm-bug", Actor.US, False)


@pytest.mark.parametrize("kind", CLASSES)
def test_only_hosts_and_unreachable_parts_are_tried_again(kind: type[FarmError]) -> None:
    assert kind.retryable == (kind.who_must_act is Actor.HOST or kind is errors.FarmUnreachable)
