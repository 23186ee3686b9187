"""Area under the receiver operating characteristic: how often a sample of a class is scored above one of another.

Labels are as for F1. Several classes are each held against the rest and averaged; classes that no sample, or every
sample, is of are left out. Agrees with sklearn.metrics.roc_auc_score (multi_class="ovr", average="macro").
Source: DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or more correlated ROC curves: the
interval is normal with their variance. Where every pair is in order that is zero, and Wilson's interval over the
smaller side is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Metric, Scale, Scored
from workers.stages.evaluate.metrics.classification import Z95, class_numbers, scores_of, wilson
from workers.stages.evaluate.metrics.f1 import answers_by_label, yes_or_no

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class AreaUnderCurve:
    """Keep every sample's scores and answers, both (classes,)."""

    scale: Scale
    scores: list[NDArray[Any]] = field(default_factory=list)
    truths: list[NDArray[Any]] = field(default_factory=list)

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        """Add one sample.

        Raises:
            BadData: several rows of scores, or labels that do not fit.
        """
        import numpy as np

        scores, labels = np.asarray(output), np.asarray(truth)
        if answers_by_label(scores, labels):
            self.scores.append(scores.reshape(-1).astype(np.float32))
            self.truths.append(yes_or_no(labels))
            return
        rows = scores_of(scores)
        if len(rows) != 1:
            raise BadData(
                f"The output {list(self.scale.shape)} holds {len(rows)} rows of scores per sample; auroc takes one.",
                remedy="Take the metric f1 or top1 for one class per position.",
            )
        number = class_numbers(labels, rows.shape, self.scale)
        self.scores.append(rows[0].astype(np.float32))
        self.truths.append(np.arange(rows.shape[1]) == number)

    def score(self) -> Scored:
        """Average over the classes that some samples are of and some are not.

        Raises:
            BadData: there is no such class.
        """
        import numpy as np

        scores, truths = np.stack(self.scores), np.stack(self.truths)
        count = truths.sum(axis=0)
        chosen = [int(place) for place in np.flatnonzero((count > 0) & (count < len(truths)))]
        if not chosen:
            raise BadData(
                f"All {len(truths)} labels are the same class; auroc needs samples of two at least.",
                remedy="Add samples of other classes, or take the metric top1.",
            )
        areas, influence = [], np.zeros(len(truths))
        for place in chosen:
            area, of_samples = area_and_influence(scores[:, place], truths[:, place])
            areas.append(area)
            influence += of_samples / len(chosen)
        value, reach = float(np.mean(areas)), Z95 * math.sqrt(float(influence @ influence))
        if reach == 0.0:
            least = int(min(np.minimum(count, len(truths) - count)[chosen]))
            return Scored(value, (min(value, wilson(least, least)[0]), max(value, 1.0)))
        return Scored(value, (max(0.0, value - reach), min(1.0, value + reach)))


def area_and_influence(scores: NDArray[Any], truth: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Return the area, and what each sample adds to its deviation: the squares sum up to its variance."""
    import numpy as np

    positive, negative = scores[truth], scores[~truth]
    above = (_midranks(scores)[truth] - _midranks(positive)) / len(negative)
    below = 1 - (_midranks(scores)[~truth] - _midranks(negative)) / len(positive)
    area = float(above.mean())
    influence = np.zeros(len(scores))
    influence[truth] = (above - area) / len(positive)
    influence[~truth] = (below - area) / len(negative)
    return area, influence


def _midranks(values: NDArray[Any]) -> NDArray[Any]:
    """Rank from 1; equal values share the middle of their ranks."""
    import numpy as np

    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[Any] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


METRICS = (Metric("auroc", True, AreaUnderCurve),)
