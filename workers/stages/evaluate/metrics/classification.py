"""Top-1 and top-5 accuracy: the share of rows whose label is among the k highest scores.

Labels are class numbers from 0; scores are the last axis of an output. A single score is a probability of class 1.
Source: Wilson (1927), score interval of a proportion. Rows of one sample (pixels, positions) are alike, so with several
the interval is normal over the samples' shares.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Metric, Scale, Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z95 = 1.959964


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Bound a proportion with 95 % confidence; (0, 1) without samples."""
    if total == 0:
        return 0.0, 1.0
    share, weight = hits / total, Z95**2 / total
    middle = (share + weight / 2) / (1 + weight)
    reach = Z95 / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(slots=True)
class TopK:
    """Count how often the label is among the k highest scores."""

    k: int
    scale: Scale
    hits: int = 0
    total: int = 0
    shares: list[float] = field(default_factory=list)

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        """Add one sample: scores (…, classes), one label for each row of scores."""
        import numpy as np

        scores = scores_of(np.asarray(output))
        labels = class_numbers(np.asarray(truth), scores.shape, self.scale)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        hits = int((best == labels[:, None]).any(axis=1).sum())
        self.hits += hits
        self.total += len(scores)
        self.shares.append(hits / len(scores))

    def score(self) -> Scored:
        value = self.hits / max(self.total, 1)
        if self.total == len(self.shares):
            return Scored(value, wilson(self.hits, self.total))
        reach = Z95 * statistics.stdev(self.shares) / math.sqrt(len(self.shares)) if len(self.shares) > 1 else 1.0
        return Scored(value, (max(0.0, value - reach), min(1.0, value + reach)))


def class_numbers(labels: NDArray[Any], scores: tuple[int, ...], scale: Scale) -> NDArray[Any]:
    """Hold labels against scores (rows, classes).

    Raises:
        BadData: not one class number for each row, or a class that the output does not have.
    """
    flat = labels.reshape(-1)
    if flat.size != scores[0] or flat.dtype.kind not in "iub":
        raise BadData(
            f"The labels hold {flat.size} value(s) of {flat.dtype} per sample; the output {list(scale.shape)} "
            f"needs {scores[0]} class number(s).",
            remedy="Store labels as integers, one per sample: numpy.savez(file, labels=labels.astype('int64'), …).",
        )
    if flat.min() < 0 or flat.max() >= scores[1]:
        raise BadData(
            f"A label is {int(flat.max() if flat.min() >= 0 else flat.min())}; the output has "
            f"{scores[1]} classes, numbered from 0."
        )
    return flat


def scores_of(output: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, classes); a lone probability p becomes the two scores (1 - p, p)."""
    import numpy as np

    rows = output.reshape(-1, output.shape[-1] if output.ndim else 1).astype(np.float64)
    return np.concatenate([1 - rows, rows], axis=1) if rows.shape[1] == 1 else rows


METRICS = tuple(Metric(f"top{k}", True, partial(TopK, k)) for k in (1, 5))
