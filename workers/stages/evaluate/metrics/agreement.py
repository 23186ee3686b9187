"""Agreement with the float source, for data without labels; the source's own score is 1.

For one output of scores per sample, (classes,) or (1, classes): the share of samples with the same best class.
Otherwise: 1 − relative RMS error, 1 − sqrt(Σ (expected − actual)² / Σ expected²), at least 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workers.stages.evaluate.metrics import Metric, Scale, Scored, Tally
from workers.stages.evaluate.metrics.classification import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 400


@dataclass(slots=True)
class SameClass:
    """Count how often the best class is the same."""

    hits: int = 0
    total: int = 0

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        self.hits += int(output.argmax() == truth.argmax())
        self.total += 1

    def score(self) -> Scored:
        return Scored(self.hits / max(self.total, 1), wilson(self.hits, self.total))


@dataclass(slots=True)
class RelativeRms:
    """Keep Σ error² and Σ expected² of each sample; the interval is a seeded bootstrap over samples."""

    noise: list[float] = field(default_factory=list)
    signal: list[float] = field(default_factory=list)

    def add(self, output: NDArray[Any], truth: NDArray[Any]) -> None:
        import numpy as np

        expected = truth.astype(np.float64).ravel()
        error = expected - output.astype(np.float64).ravel()
        self.noise.append(float(error @ error))
        self.signal.append(float(expected @ expected))

    def score(self) -> Scored:
        import numpy as np

        noise, signal = np.array(self.noise), np.array(self.signal)
        rng = np.random.default_rng(0)
        draws = (rng.integers(0, len(noise), len(noise)) for _ in range(RESAMPLES))
        values = [_agreement(noise[draw].sum(), signal[draw].sum()) for draw in draws]
        low, high = np.percentile(values, [2.5, 97.5])
        return Scored(_agreement(noise.sum(), signal.sum()), (float(low), float(high)))


def _agreement(noise: float, signal: float) -> float:
    if noise == 0.0:
        return 1.0
    return max(0.0, 1.0 - math.sqrt(noise / signal)) if signal > 0.0 else 0.0


def _start(scale: Scale) -> Tally:
    shape = scale.shape
    classes = shape[-1] if shape else 1
    return SameClass() if classes > 1 and math.prod(shape) == classes else RelativeRms()


METRICS = (Metric("agreement", False, _start),)
