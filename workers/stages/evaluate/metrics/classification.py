"""Top-1 and top-5 accuracy: the share of samples whose label is among the k highest scores.

Labels are class numbers from 0; scores are the last axis of an output. A single score is a probability of class 1.
Source: Wilson (1927), score interval of a proportion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Metric, Scored

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
    shape: tuple[int, ...]
    hits: int = 0
    total: int = 0

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        """Add one sample: scores (…, classes), one label for each row of scores."""
        import numpy as np

        scores = _scores(np.asarray(output))
        labels = np.asarray(truth).reshape(-1)
        if labels.size != len(scores) or labels.dtype.kind not in "iub":
            raise BadData(
                f"The labels hold {labels.size} value(s) of {labels.dtype} per sample; the output {list(self.shape)} "
                f"needs {len(scores)} class number(s).",
                remedy="Store labels as integers, one per sample: numpy.savez(file, labels=labels.astype('int64'), …).",
            )
        if labels.min() < 0 or labels.max() >= scores.shape[1]:
            raise BadData(
                f"A label is {int(labels.max() if labels.min() >= 0 else labels.min())}; the output has "
                f"{scores.shape[1]} classes, numbered from 0."
            )
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        self.hits += int((best == labels[:, None]).any(axis=1).sum())
        self.total += len(scores)

    def score(self) -> Scored:
        return Scored(self.hits / max(self.total, 1), wilson(self.hits, self.total))


def _scores(output: NDArray[Any]) -> NDArray[Any]:
    """Return (rows, classes); a lone probability p becomes the two scores (1 - p, p)."""
    import numpy as np

    rows = output.reshape(-1, output.shape[-1] if output.ndim else 1).astype(np.float64)
    return np.concatenate([1 - rows, rows], axis=1) if rows.shape[1] == 1 else rows


METRICS = tuple(Metric(f"top{k}", True, partial(TopK, k)) for k in (1, 5))
