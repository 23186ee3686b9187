"""Mean average precision of detected boxes, as COCO defines it: over classes and over IoU 0.50, 0.55 … 0.95.

A sample's labels are (boxes, 5): two corners and a class, in the model's own coordinates and order of axes; rows with a
class below 0 are padding. An output is (boxes, 6): two corners, score, class; or boxes (boxes, 4) with scores and
classes in outputs of their own. Of each class the 100 best boxes of an image count. Agrees with pycocotools.
Source: Lin et al. (2014), Microsoft COCO, and https://cocodataset.org/#detection-eval. The interval is a bootstrap
over images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Metric, Scale, Scored
from workers.stages.evaluate.metrics.resampling import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LEVELS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
RECALLS = 101
MOST = 100
DRAWS = 100
CLASS_WORDS = ("class", "label", "categor")


@dataclass(slots=True)
class _Class:
    """Boxes of one class, in chunks of one image each: scores, (levels, boxes) hits, and how many there really are."""

    scores: list[Array] = field(default_factory=list)
    hits: list[Array] = field(default_factory=list)
    images: list[Array] = field(default_factory=list)
    real: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class AveragePrecision:
    """Match the boxes of each image; average when all are there."""

    scale: Scale
    images: int = 0
    classes: dict[int, _Class] = field(default_factory=dict)

    def add(self, output: Array, truth: Array) -> None:
        """Add one image.

        Raises:
            BadData: labels or outputs are no boxes.
        """
        import numpy as np

        found = np.asarray(output, dtype=np.float64).reshape(-1, 6)
        real = _labelled(np.asarray(truth))
        for number in sorted({*real[:, 4].astype(int), *found[:, 5].round().astype(int)}):
            mine = found[found[:, 5].round() == number]
            mine = mine[np.argsort(-mine[:, 4], kind="stable")][:MOST]
            true = real[real[:, 4] == number]
            kept = self.classes.setdefault(number, _Class())
            kept.scores.append(mine[:, 4])
            kept.hits.append(matched(mine[:, :4], true[:, :4]))
            kept.images.append(np.full(len(mine), self.images))
            kept.real.append((self.images, len(true)))
        self.images += 1

    def score(self) -> Scored:
        """Average over the classes that occur in the labels.

        Raises:
            BadData: there is no labelled box.
        """
        import numpy as np

        ordered = [_sorted(kept) for kept in self.classes.values() if sum(count for _, count in kept.real)]
        if not ordered:
            raise BadData("The labels hold no box; map needs one at least.", remedy="See docs/accuracy.md.")

        def value(weights: Array) -> float:
            found = [precision for hits, images, real in ordered for precision in _average(hits, images, real, weights)]
            return float(np.mean(found)) if found else 0.0

        return Scored(value(np.ones(self.images)), bootstrap(self.images, value, draws=DRAWS))


def gather(outputs: Mapping[str, Array]) -> Array:
    """Make (boxes, 6) of a model's outputs.

    Raises:
        BadData: they are no boxes with scores and classes.
    """
    import numpy as np

    for array in outputs.values():
        if array.ndim and array.shape[-1] == 6:
            return array.reshape(-1, 6)
    boxes = next((array.reshape(-1, 4) for array in outputs.values() if array.ndim > 1 and array.shape[-1] == 4), None)
    flat = {
        name: array.reshape(-1) for name, array in outputs.items() if boxes is not None and array.size == len(boxes)
    }
    scores = [array for name, array in flat.items() if "score" in name.lower()]
    classes = [array for name, array in flat.items() if any(word in name.lower() for word in CLASS_WORDS)]
    if boxes is not None and not (scores and classes) and len(flat) >= 2:
        classes, scores = list(flat.values())[:1], list(flat.values())[1:2]
    if boxes is None or not scores or not classes:
        shown = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        raise BadData(
            "map reads boxes of one output (boxes, 6), or of boxes (boxes, 4), scores and classes; the model has "
            f"{shown}.",
            remedy="End the model with its decoding and suppression, so that it returns boxes.",
        )
    return np.column_stack([boxes, scores[0], classes[0]])


def matched(found: Array, real: Array) -> Array:
    """Tell for each level and each box, best first, whether it hits a real box that no better one took."""
    import numpy as np

    hits = np.zeros((len(LEVELS), len(found)), dtype=bool)
    if not len(found) or not len(real):
        return hits
    overlap = _overlaps(found, real)
    for row, level in enumerate(LEVELS):
        free = np.ones(len(real), dtype=bool)
        for box in range(len(found)):
            candidates = np.where(free, overlap[box], -1.0)
            best = len(real) - 1 - int(candidates[::-1].argmax())
            if candidates[best] >= min(level, 1 - 1e-10):
                free[best], hits[row, box] = False, True
    return hits


def _overlaps(one: Array, other: Array) -> Array:
    """Return the intersection over the union of every pair."""
    import numpy as np

    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.asarray(common / np.where(union > 0, union, 1.0))


def _labelled(labels: Array) -> Array:
    import numpy as np

    if labels.ndim != 2 or labels.shape[1] != 5 or labels.dtype.kind not in "iuf":
        raise BadData(
            f"The labels have shape {list(labels.shape)} and dtype {labels.dtype} per sample; map takes (boxes, 5): "
            "two corners and a class."
        )
    return labels[labels[:, 4] >= 0].astype(np.float64)


def _sorted(kept: _Class) -> tuple[Array, Array, list[tuple[int, int]]]:
    """Put a class's boxes of all images in one order, the surest first: hits (levels, boxes), images, real counts."""
    import numpy as np

    order = np.argsort(-np.concatenate(kept.scores), kind="stable")
    return np.concatenate(kept.hits, axis=1)[:, order], np.concatenate(kept.images)[order], kept.real


def _average(hits: Array, images: Array, real: list[tuple[int, int]], weights: Array) -> list[float]:
    """Return the average precision at each level; nothing when no real box was drawn."""
    import numpy as np

    total = sum(weights[image] * count for image, count in real)
    if not total:
        return []
    weight = weights[images]
    hit, missed = np.cumsum(hits * weight, axis=1), np.cumsum(~hits * weight, axis=1)
    precision = hit / np.maximum(hit + missed, np.finfo(float).eps)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recalls = np.linspace(0, 1, RECALLS)
    found = []
    for row in range(len(LEVELS)):
        place = np.searchsorted(hit[row] / total, recalls, side="left")
        reached = place < precision.shape[1]
        found.append(float(precision[row][place[reached]].sum()) / RECALLS)
    return found


METRICS = (Metric("map", True, AveragePrecision, gather),)
