"""Mean absolute error against labels: lower is better. The interval is normal, over samples."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from workers.stages.evaluate.metrics import Metric, Scale, Scored
from workers.stages.evaluate.metrics.classification import Z95

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class MeanAbsoluteError:
    """Keep each sample's mean absolute error."""

    scale: Scale
    errors: list[float] = field(default_factory=list)

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        import numpy as np

        if truth.size != output.size or truth.dtype.kind not in "iubf":
            raise BadData(
                f"The labels have shape {list(truth.shape)} and dtype {truth.dtype} per sample; "
                f"numbers of the output's shape {list(self.scale.shape)} are needed."
            )
        difference = output.astype(np.float64).ravel() - truth.astype(np.float64).ravel()
        self.errors.append(float(np.abs(difference).mean()))

    def score(self) -> Scored:
        value = statistics.fmean(self.errors)
        reach = Z95 * statistics.stdev(self.errors) / math.sqrt(len(self.errors)) if len(self.errors) > 1 else 0.0
        return Scored(value, (max(0.0, value - reach), value + reach))


METRICS = (Metric("mae", True, MeanAbsoluteError),)
