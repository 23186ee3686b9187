"""Metrics beside their definitions, and what does not fit them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import BadData, BadRequest
from farm.domain.metric import DEFAULT_METRIC, LABEL_FREE_METRICS, LOWER_IS_BETTER, METRICS
from workers.stages.evaluate.metrics import Scale, Scored, load_metrics, metric_named
from workers.stages.evaluate.metrics.classification import wilson

Array = np.ndarray[Any, Any]


def score(name: str, outputs: Array, truths: Array) -> Scored:
    tally = metric_named(name).start(Scale(outputs.shape[1:]))
    for output, truth in zip(outputs, truths, strict=True):
        tally.add(output, np.asarray(truth))
    return tally.score()


def test_the_metrics_of_this_farm() -> None:
    assert set(load_metrics()) == {"top1", "top5", "f1", "auroc", "mae", "map", "wer", "agreement"}
    assert not load_metrics()["agreement"].needs_labels


def test_top_k_counts_labels_among_the_best() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.9, 0.05, 0.05]])
    assert score("top1", scores[:, None], np.array([1, 1, 2, 2])).value == 0.5
    ten = np.tile(np.arange(10.0), (3, 1))
    assert score("top5", ten, np.array([9, 5, 4])).value == pytest.approx(2 / 3)


def test_a_single_probability_is_two_classes() -> None:
    assert score("top1", np.array([[0.9], [0.2], [0.6]]), np.array([1, 0, 0])).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.array([0, 3]), "label is 3; the output has 3 classes"),
        (np.array([0, -1]), "label is -1"),
        (np.array([0.5, 1.5]), "float64"),
        (np.array([[0, 1], [1, 2]]), "2 value"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Array, says: str) -> None:
    with pytest.raises(BadData, match=says):
        score("top1", np.eye(3)[:2], labels)


def test_rows_of_one_sample_do_not_count_as_samples_for_the_interval() -> None:
    """A hundred pixels of four pictures, each all right or all wrong, are four answers, not four hundred."""
    outputs = np.zeros((4, 100, 2))
    outputs[..., 0] = 1.0
    truths = np.repeat(np.array([[0], [0], [1], [1]]), 100, axis=1)
    low, high = score("top1", outputs, truths).ci95
    assert high - low > 0.9


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_in_range(hits_total: tuple[int, int]) -> None:
    hits, total = hits_total
    low, high = wilson(hits, total)
    assert 0 <= low <= hits / total + 1e-12
    assert hits / total - 1e-12 <= high <= 1


def test_wilson_as_published() -> None:
    """Source: Newcombe (1998), table I: 81/263 gives 0.2553 to 0.3662."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_agreement_of_scores_is_the_share_of_equal_classes() -> None:
    source = np.eye(4)[:, None]
    artifact = source.copy()
    artifact[3] = [[1, 0, 0, 0.5]]
    found = score("agreement", artifact, source)
    assert found.value == 0.75
    assert found.ci95 == wilson(3, 4)


def test_agreement_of_other_outputs_is_one_minus_relative_rms() -> None:
    source = np.ones((6, 2, 3))
    found = score("agreement", source * 1.1, source)
    assert found.value == pytest.approx(0.9)
    assert found.ci95 == pytest.approx((0.9, 0.9))
    assert score("agreement", source * 9, source).value == 0.0
    assert score("agreement", source * 0, source * 0).value == 1.0


def test_mae_is_the_mean_over_samples() -> None:
    found = score("mae", np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [1.0], [1.0]]))
    assert found.value == pytest.approx(4 / 3)
    assert found.ci95[0] < 4 / 3 < found.ci95[1]
    assert math.isfinite(found.ci95[1])


def test_mae_refuses_labels_of_another_shape() -> None:
    with pytest.raises(BadData, match="shape"):
        score("mae", np.zeros((2, 3)), np.zeros(2))


def test_an_unknown_metric_names_near_misses() -> None:
    with pytest.raises(BadRequest, match="did you mean top1"):
        metric_named("top-1")
    with pytest.raises(BadRequest, match="known are agreement, auroc, f1"):
        metric_named("zzz")


def test_what_planner_and_verdict_know_of_metrics_is_true() -> None:
    assert set(METRICS) == set(load_metrics())
    assert DEFAULT_METRIC in METRICS
    assert {m.name for m in load_metrics().values() if not m.needs_labels} == set(LABEL_FREE_METRICS)
    assert set(LOWER_IS_BETTER) <= set(load_metrics())
