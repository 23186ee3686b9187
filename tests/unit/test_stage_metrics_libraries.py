"""Every metric beside the library of its field: the farm's own run on boards where those don't."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import jiwer
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn import metrics as sklearn_metrics

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Scale, Scored, metric_named
from workers.stages.evaluate.metrics.auroc import area_and_influence
from workers.stages.evaluate.metrics.detection import gather
from workers.stages.evaluate.metrics.text import decoded, distance, spelled

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng


def score(name: str, outputs: Any, truths: Any, scale: Scale | None = None) -> Scored:
    tally = metric_named(name).start(scale or Scale(np.asarray(outputs[0]).shape))
    for output, truth in zip(outputs, truths, strict=True):
        tally.add(np.asarray(output), np.asarray(truth))
    return tally.score()


def softmax(values: Array) -> Array:
    raised = np.exp(values)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def classified(seed: int, samples: int = 200, classes: int = 5) -> tuple[Array, Array]:
    """Make scores that lean to the right class."""
    rng = RNG(seed)
    labels = rng.integers(0, classes, samples)
    return softmax(rng.normal(size=(samples, classes)) + 1.5 * np.eye(classes)[labels]), labels


@pytest.mark.parametrize("seed", range(3))
def test_top_k_is_that_of_scikit_learn(seed: int) -> None:
    scores, labels = classified(seed, classes=9)

    for k in (1, 5):
        expected = sklearn_metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(9))
        assert score(f"top{k}", scores, labels).value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_f1_of_classes_is_that_of_scikit_learn(seed: int) -> None:
    scores, labels = classified(seed)
    found = score("f1", scores, labels)

    assert found.value == pytest.approx(sklearn_metrics.f1_score(labels, scores.argmax(axis=1), average="macro"))
    assert found.ci95[0] < found.value < found.ci95[1]


def test_f1_of_one_score_is_that_of_class_1() -> None:
    rng = RNG(4)
    labels = rng.integers(0, 2, 150)
    scores = np.clip(0.4 * labels + rng.random(150) * 0.6, 0, 1)
    expected = sklearn_metrics.f1_score(labels, scores >= 0.5)

    assert score("f1", scores[:, None], labels).value == pytest.approx(expected)
    logits = np.log(scores / (1 - scores))
    assert score("f1", logits[:, None], labels).value == pytest.approx(expected)


def test_f1_and_auroc_of_several_labels_a_sample() -> None:
    rng = RNG(5)
    labels = rng.integers(0, 2, (150, 4))
    scores = np.clip(0.3 * labels + rng.random((150, 4)) * 0.7, 0, 1)

    expected = sklearn_metrics.f1_score(labels, scores >= 0.5, average="macro")
    assert score("f1", scores, labels).value == pytest.approx(expected)
    expected = sklearn_metrics.roc_auc_score(labels, scores, average="macro")
    assert score("auroc", scores, labels).value == pytest.approx(expected, abs=1e-6)


def test_f1_of_rows_counts_every_row() -> None:
    rng = RNG(6)
    labels = rng.integers(0, 3, (20, 7))
    outputs = rng.random((20, 7, 3)) + np.eye(3)[labels]
    expected = sklearn_metrics.f1_score(labels.ravel(), outputs.argmax(axis=2).ravel(), average="macro")

    assert score("f1", outputs, labels).value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_auroc_is_that_of_scikit_learn(seed: int) -> None:
    scores, labels = classified(seed)
    expected = sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr", average="macro")

    assert score("auroc", scores, labels).value == pytest.approx(expected, abs=1e-6)


def test_auroc_with_ties_is_that_of_scikit_learn() -> None:
    rng = RNG(7)
    labels = rng.integers(0, 2, 300)
    scores = np.round(0.5 * labels + rng.random(300), 1)

    expected = sklearn_metrics.roc_auc_score(labels, scores)
    assert score("auroc", scores[:, None], labels).value == pytest.approx(expected, abs=1e-6)


def test_the_area_s_variance_is_that_of_resampling() -> None:
    rng = RNG(8)
    labels = rng.integers(0, 2, 400).astype(bool)
    scores = labels + rng.normal(size=400)
    _, influence = area_and_influence(scores, labels)
    drawn = [rng.integers(0, 400, 400) for _ in range(400)]
    spread = np.std([sklearn_metrics.roc_auc_score(labels[draw], scores[draw]) for draw in drawn])

    assert np.sqrt(influence @ influence) == pytest.approx(spread, rel=0.15)


def test_a_perfect_area_is_not_taken_for_certain() -> None:
    found = score("auroc", np.array([[0.1], [0.2], [0.8], [0.9]]), np.array([0, 0, 1, 1]))

    assert found.value == 1.0
    assert found.ci95[0] < 0.6
    assert found.ci95[1] == 1.0


def test_one_class_has_no_area() -> None:
    with pytest.raises(BadData, match="All 3 labels are the same class"):
        score("auroc", np.zeros((3, 4)), np.array([2, 2, 2]))


def images(seed: int, count: int = 12) -> tuple[list[Array], list[Array]]:
    """Make real boxes of three classes, and found ones that are near, doubled, far off or of another class."""
    rng = RNG(seed)
    outputs, truths = [], []
    for _ in range(count):
        corners = rng.uniform(0, 60, (rng.integers(1, 6), 2))
        real = np.column_stack([corners, corners + rng.uniform(8, 30, corners.shape), rng.integers(0, 3, len(corners))])
        near = np.column_stack([real[:, :4] + rng.normal(0, 1.5, (len(real), 4)), rng.random(len(real)), real[:, 4]])
        far = np.column_stack([rng.uniform(0, 40, (3, 2)), rng.uniform(50, 90, (3, 2)), rng.random(3) * 0.7])
        outputs.append(np.concatenate([near, near[:1] + 0.3, np.column_stack([far, rng.integers(0, 3, 3)])]))
        truths.append(np.concatenate([real, np.full((6 - len(real), 5), -1.0)]))
    return outputs, truths


def coco_map(outputs: list[Array], truths: list[Array]) -> float:
    """Return pycocotools' AP over IoU 0.50:0.95; class ids from 1, since 0 is none there."""
    boxes, found = [], []
    for image, (output, truth) in enumerate(zip(outputs, truths, strict=True)):
        for x1, y1, x2, y2, number in truth[truth[:, 4] >= 0]:
            size = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            boxes.append({"id": len(boxes) + 1, "image_id": image, "category_id": int(number) + 1, **size})
        for x1, y1, x2, y2, sure, number in output:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": sure}
            found.append({"image_id": image, "category_id": int(number) + 1, **box})
    with contextlib.redirect_stdout(io.StringIO()):
        real = COCO()
        real.dataset = {
            "images": [{"id": image} for image in range(len(outputs))],
            "annotations": boxes,
            "categories": [{"id": number} for number in (1, 2, 3)],
            "info": {},
        }
        real.createIndex()
        judged = COCOeval(real, real.loadRes(found), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return float(judged.stats[0])


@pytest.mark.parametrize("seed", range(4))
def test_map_is_that_of_pycocotools(seed: int) -> None:
    outputs, truths = images(seed)
    found = score("map", outputs, truths)

    assert found.value == pytest.approx(coco_map(outputs, truths), abs=1e-9)
    assert 0 < found.ci95[0] < found.value < found.ci95[1] <= 1


def test_boxes_are_read_of_one_output_or_of_several() -> None:
    rows = np.arange(12.0).reshape(2, 6)
    parts = {"boxes": rows[None, :, :4], "labels": rows[None, :, 5], "scores": rows[None, :, 4]}
    unnamed = {"a": rows[None, :, :4], "b": rows[None, :, 5], "c": rows[None, :, 4], "d": np.array([2.0])}

    for outputs in ({"all": rows[None]}, parts, unnamed):
        np.testing.assert_array_equal(gather(outputs), rows)
    with pytest.raises(BadData, match=r"the model has raw \[1, 84, 100\]"):
        gather({"raw": np.zeros((1, 84, 100))})


def test_labels_that_are_no_boxes_are_refused() -> None:
    with pytest.raises(BadData, match=r"map takes \(boxes, 5\)"):
        score("map", [np.zeros((2, 6))], [np.zeros(3)])
    with pytest.raises(BadData, match="hold no box"):
        score("map", [np.zeros((2, 6))], [np.full((1, 5), -1.0)])


WORDS = ("", "<unk>", "|", "a", "b", "c", "d")


def texts(seed: int, count: int = 30) -> tuple[list[str], list[str]]:
    rng = RNG(seed)
    real = [" ".join(rng.choice(list("abcd"), rng.integers(1, 9))) for _ in range(count)]
    said = [" ".join(w for w in text.split() if rng.random() > 0.2) + rng.choice(["", " d", " a b"]) for text in real]
    return said, real


@pytest.mark.parametrize("seed", range(3))
def test_wer_is_that_of_jiwer(seed: int) -> None:
    said, real = texts(seed)
    ids = [[WORDS.index(c.replace(" ", "|")) for c in text] for text in said]
    found = score("wer", [np.array(i, dtype=np.int64) for i in ids], real, Scale((9,), WORDS))

    assert found.value == pytest.approx(jiwer.wer(real, said))
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_wer_of_ids_needs_no_vocabulary() -> None:
    found = score("wer", [np.array([5, 6, 7, -1]), np.array([1, 2, -1, -1])], [[5, 7, -1, -1], [1, 2, -1, -1]])

    assert found.value == pytest.approx(1 / 4)


def test_scores_are_read_as_ctc_does() -> None:
    steps = [3, 3, 0, 3, 2, 4, 4, 1]

    assert spelled(decoded(np.eye(7)[steps]), WORDS) == ["aa", "b"]
    assert distance("kitten", "sitting") == 3


def test_texts_without_a_vocabulary_are_refused() -> None:
    with pytest.raises(BadData, match="no array 'vocabulary'"):
        score("wer", [np.zeros((3, 4))], ["a b"])
