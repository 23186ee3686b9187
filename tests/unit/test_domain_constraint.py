"""Constraints: what can be asked, what is refused, and what a result must show to satisfy one."""

from __future__ import annotations

from typing import Any

import pytest

from farm.domain.constraint import QUANTITIES, against_metrics, contradictions, parse_constraint
from farm.domain.errors import BadRequest
from tests.domain_answers import result


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [
        ("p90 <= 20ms", "p90", 20_000),
        ("p90<=20 ms", "p90", 20_000),
        ("p50 <= 350us", "p50", 350),
        ("size <= 5MB", "size", 5e6),
        ("size <= 4MiB", "size", 2**22),
        ("memory <= 0.5GB", "memory", 5e8),
        ("accuracy >= 0.9", "accuracy", 0.9),
        ("accuracy >= 90%", "accuracy", 0.9),
        ("sqnr >= 20dB", "sqnr", 20),
    ],
)
def test_a_bound_is_in_the_reports_own_unit(text: str, name: str, bound: float) -> None:
    read = parse_constraint(text)

    assert (read.quantity.name, read.bound, read.relative) == (name, pytest.approx(bound), False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "QUANTITY <= VALUE"),
        ("p90 = 20ms", "QUANTITY <= VALUE"),
        ("p90 < 20ms", "QUANTITY <= VALUE"),
        ("p90 <= -20ms", "QUANTITY <= VALUE"),
        ("p90 <= 20", "p90 in no unit; known are us, µs, ms, s"),
        ("size <= 20ms", "known are B, kB"),
        ("acuracy >= 0.9", "did you mean accuracy?"),
        ("power <= 3", "no report has"),
        ("p90 >= 20ms", "wrong side: of p90, less is wanted"),
        ("size >= 5MB", "wrong side: of size, less is wanted"),
        ("sqnr <= 20dB", "wrong side: of sqnr, more is wanted"),
        ("p90 >= 2*float", "wrong side"),
        ("accuracy >= 95", "is 1 at most"),
        ("accuracy >= 101%", "is 1 at most"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_what_can(text: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says.replace("<", "[<]")):
        parse_constraint(text)


def test_bounds_that_exclude_each_other_are_found_in_either_order() -> None:
    texts = ["accuracy >= 0.6", "size <= 5MB", "p90 <= 20ms", "accuracy >= 0.99*float", "accuracy <= 0.5"]
    (found,) = contradictions(map(parse_constraint, texts))

    assert "'accuracy >= 0.6' and 'accuracy <= 0.5'" in found.message


def test_the_refusal_of_a_wrong_side_says_what_can_be_written() -> None:
    with pytest.raises(BadRequest) as refused:
        parse_constraint("p90 >= 20ms")
    assert refused.value.remedy == "Write 'p90 <= 20ms', or leave it out."
    with pytest.raises(BadRequest) as refused:
        parse_constraint("accuracy >= 95")
    assert refused.value.remedy == "Write 'accuracy >= 95%' or 'accuracy >= 0.95'."


@pytest.mark.parametrize(
    ("text", "metrics", "fits"),
    [
        ("accuracy <= 0.5", (), False),
        ("accuracy <= 0.5", ("top1",), False),
        ("accuracy <= 0.5", ("top1", "mae"), True),
        ("accuracy >= 0.5", ("mae",), False),
        ("accuracy >= 0.99*float", ("wer",), True),
        ("accuracy <= 12", ("mae",), True),
    ],
)
def test_a_bound_on_accuracy_is_on_the_side_that_its_metric_wants(
    text: str, metrics: tuple[str, ...], fits: bool
) -> None:
    assert (against_metrics([parse_constraint(text)], metrics) == []) is fits


@pytest.mark.parametrize(
    ("text", "change", "reason"),
    [
        ("p90 <= 20ms", {"p90": 20_000.0}, None),
        ("p90 <= 20ms", {"p90": 31_200.0}, "p90 31.2 ms, asked for p90 <= 20ms"),
        ("p90 <= 0.5*float", {"p90": 6_000.0}, "p90 6 ms, asked for p90 <= 0.5*float (5 ms)"),
        ("size <= 5MB", {"size": 4_999_999}, None),
        ("accuracy >= 0.99*float", {"accuracy": 0.8811}, None),
        ("accuracy >= 0.99*float", {"accuracy": 0.88}, "accuracy 0.88, asked for accuracy >= 0.99*float (0.8811)"),
        ("sqnr >= 20dB", {"sqnr": None}, "its sqnr is not known"),
        ("memory <= 1GB", {"peak": None}, "its memory is not known"),
        ("p90 <= 20ms", {"reasons": ("loaded",)}, "its p90 is not known: no valid measurement (loaded)"),
        ("size <= 5MB", {"reasons": ("loaded",)}, None),
    ],
)
def test_a_result_satisfies_a_constraint_or_says_how_it_breaks_it(
    text: str, change: dict[str, Any], reason: str | None
) -> None:
    assert parse_constraint(text).broken_by(result(**change), result()) == reason


def test_an_error_is_kept_by_staying_below() -> None:
    kept = parse_constraint("accuracy >= 0.99*float")

    assert kept.broken_by(result(metric="mae", accuracy=0.895), None) is None
    assert kept.broken_by(result(metric="mae", accuracy=0.95), None) is not None


def test_every_quantity_is_read_from_a_complete_result() -> None:
    assert {name for name, quantity in QUANTITIES.items() if quantity.read(result()) is None} == set()
