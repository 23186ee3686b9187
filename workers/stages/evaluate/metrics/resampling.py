"""An interval for any score that is a function of weighted samples: the bootstrap, from a fixed seed.

Source: Efron and Tibshirani (1993), An Introduction to the Bootstrap, percentile intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 0


def bootstrap(samples: int, value: Callable[[NDArray[Any]], float], *, draws: int) -> tuple[float, float]:
    """Bound `value` with 95 % confidence: it is given how often each sample was drawn, (samples,) of sum `samples`."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    drawn = (np.bincount(rng.integers(0, samples, samples), minlength=samples) for _ in range(draws))
    low, high = np.percentile([value(weights) for weights in drawn], [2.5, 97.5])
    return float(low), float(high)
