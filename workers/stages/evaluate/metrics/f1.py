"""F1, 2·TP / (2·TP + FP + FN): macro-averaged over the classes that occur, or of class 1 where there is one score.

Labels are class numbers from 0, one for each row of scores; or, for outputs of several labels, a 0 or 1 for each score.
One score, and each score of several labels, counts as "yes" from 0.5 on; from 0 on where scores leave [0, 1] and so are
logits. Agrees with sklearn.metrics.f1_score (average="macro"; "binary" for one score). The interval is a bootstrap over
samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Metric, Scale, Scored
from workers.stages.evaluate.metrics.classification import class_numbers, scores_of
from workers.stages.evaluate.metrics.resampling import bootstrap

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 400
ROUNDING = 0.05
"""Probabilities of a quantized artifact may leave [0, 1] by so much."""


@dataclass(slots=True)
class F1:
    """Keep what was predicted and what is true of each sample: class numbers of rows, or scores and answers."""

    scale: Scale
    predicted: list[NDArray[Any]] = field(default_factory=list)
    true: list[NDArray[Any]] = field(default_factory=list)
    by_label: bool = False

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        import numpy as np

        scores, labels = np.asarray(output), np.asarray(truth)
        self.by_label = answers_by_label(scores, labels)
        if self.by_label:
            self.predicted.append(scores.reshape(-1).astype(np.float32))
            self.true.append(yes_or_no(labels))
        else:
            rows = scores_of(scores)
            self.true.append(class_numbers(labels, rows.shape, self.scale))
            self.predicted.append(rows.argmax(axis=1))

    def score(self) -> Scored:
        import numpy as np

        owners = np.repeat(np.arange(len(self.true)), [len(rows) for rows in self.true])
        predicted, true = np.concatenate(self.predicted), np.concatenate(self.true)
        if self.by_label:
            labels = np.tile(np.arange(len(self.true[0])), len(self.true))
            said = predicted >= threshold(predicted)
            events = [(labels[m], owners[m]) for m in (said & true, said, true)]
        else:
            same = predicted == true
            events = [(predicted[same], owners[same]), (predicted, owners), (true, owners)]
        classes = int(max(self.scale.shape[-1] if self.scale.shape else 1, 2))

        def value(weights: NDArray[Any]) -> float:
            hits, said, real = (np.bincount(kind, weights=weights[own], minlength=classes) for kind, own in events)
            occurs = said + real > 0
            return float((2 * hits[occurs] / (said + real)[occurs]).mean()) if occurs.any() else 0.0

        samples = len(self.true)
        return Scored(value(np.ones(samples)), bootstrap(samples, value, draws=DRAWS))


def answers_by_label(scores: NDArray[Any], labels: NDArray[Any]) -> bool:
    """Tell whether there is a yes or no for each score, instead of a class number for each row of scores."""
    classes = scores.shape[-1] if scores.ndim else 1
    return bool(scores.size == labels.size and (classes == 1 or scores.size == classes))


def yes_or_no(labels: NDArray[Any]) -> NDArray[Any]:
    """Read answers, 0 or 1.

    Raises:
        BadData: another value, or no integers.
    """
    if labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() > 1:
        raise BadData(
            f"A label of {labels.dtype} lies between {labels.min()} and {labels.max()}; for one answer per score 0 and "
            "1 are needed."
        )
    return labels.reshape(-1).astype(bool)


def threshold(scores: NDArray[Any]) -> float:
    """Return what counts as yes: half for probabilities, 0 for logits."""
    return 0.0 if scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING else 0.5


METRICS = (Metric("f1", True, F1),)
