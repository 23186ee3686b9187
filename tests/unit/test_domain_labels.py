"""Labels that don't fit the metric or the output are refused before anything is converted."""

from __future__ import annotations

from typing import Any

import pytest

from farm.domain.facts import TensorSpec
from farm.domain.labels import label_errors

SCORES = (TensorSpec("scores", "float32", (1, 5)),)
OPEN = (TensorSpec("scores", "float32", None),)
GOOD = {"dtype": "int64", "shape": [20], "minimum": 0, "maximum": 4, "constant": False}


def errors(metric: str, outputs: tuple[TensorSpec, ...] = SCORES, **labels: Any) -> list[str]:
    vocabulary = {"vocabulary": {"dtype": "str32", "shape": [9]}} if labels.pop("vocabulary", False) else {}
    return [error.message for error in label_errors(metric, {"labels": GOOD | labels, **vocabulary}, outputs)]


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        ("top1", {}),
        ("top5", {"dtype": "uint8"}),
        ("f1", {}),
        ("f1", {"shape": [20, 5], "maximum": 1}),
        ("auroc", {}),
        ("mae", {"dtype": "float32", "shape": [20, 5]}),
        ("map", {"dtype": "float32", "shape": [20, 7, 5]}),
        ("wer", {"dtype": "str128", "vocabulary": True}),
        ("wer", {"dtype": "int64", "shape": [20, 9], "minimum": -1}),
        ("agreement", {"dtype": "str128"}),
    ],
)
def test_labels_that_fit_pass(metric: str, labels: dict[str, Any]) -> None:
    assert errors(metric, **labels) == []


@pytest.mark.parametrize(
    ("metric", "labels", "says"),
    [
        ("top1", {"maximum": 5}, "The labels lie between 0 and 5; output 'scores' has 5 classes"),
        ("top1", {"minimum": -1}, "between -1 and 4"),
        ("f1", {"dtype": "float64"}, "f1 takes class numbers from 0, as integers"),
        ("auroc", {"constant": True, "minimum": 3}, "All labels are 3; auroc needs samples of two classes"),
        ("mae", {"dtype": "str64"}, "mae takes numbers"),
        ("map", {}, "map takes (N,boxes,5)"),
        ("wer", {"dtype": "str128"}, "no array 'vocabulary'"),
        ("wer", {"dtype": "float32"}, "wer takes texts, or ids"),
    ],
)
def test_labels_that_do_not_fit_are_refused(metric: str, labels: dict[str, Any], says: str) -> None:
    (message,) = errors(metric, **labels)

    assert says in message


def test_what_the_file_leaves_open_is_not_judged() -> None:
    assert errors("top1", OPEN, maximum=900) == []
    assert label_errors("top1", {}, SCORES) == []


def test_a_lone_score_has_two_classes() -> None:
    one = (TensorSpec("p", "float32", (1, 1)),)

    assert errors("top1", one, maximum=1) == []
    assert errors("top1", one, maximum=2) != []
