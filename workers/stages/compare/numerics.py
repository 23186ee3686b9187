"""How far an artifact's outputs are from the source's, accumulated sample by sample. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAP_DB = 200.0
"""What identical outputs count as, since JSON has no infinity; the floor is its negative."""


@dataclass(slots=True)
class OutputError:
    """Running sums over one output; arrays of any shape, in float64."""

    signal: float = 0.0
    noise: float = 0.0
    actual: float = 0.0
    dot: float = 0.0
    peak: float = 0.0
    max_abs_error: float = 0.0
    elements: int = 0

    def add(self, expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Add one sample of two equally shaped, finite arrays."""
        import numpy as np

        x, y = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
        error = x - y
        self.signal += float(x @ x)
        self.noise += float(error @ error)
        self.actual += float(y @ y)
        self.dot += float(x @ y)
        self.peak = max(self.peak, float(np.abs(x).max(initial=0.0)))
        self.max_abs_error = max(self.max_abs_error, float(np.abs(error).max(initial=0.0)))
        self.elements += x.size

    @property
    def sqnr_db(self) -> float:
        """10·log10(Σ expected² / Σ (expected − actual)²), within ±200 dB."""
        return decibels(self.signal, self.noise)

    @property
    def psnr_db(self) -> float:
        """10·log10(max |expected|² / mean (expected − actual)²), within ±200 dB."""
        return decibels(self.peak**2, self.noise / max(self.elements, 1))

    @property
    def cosine(self) -> float:
        """Cosine of the angle between all expected and all actual values; 1 when both are zero."""
        norms = math.sqrt(self.signal) * math.sqrt(self.actual)
        if norms == 0.0:
            return 1.0 if self.signal == self.actual else 0.0
        return max(-1.0, min(1.0, self.dot / norms))

    @property
    def figures(self) -> dict[str, float]:
        return {
            "sqnr_db": self.sqnr_db,
            "psnr_db": self.psnr_db,
            "cosine": self.cosine,
            "max_abs_error": self.max_abs_error,
            "max_abs_value": self.peak,
        }


def decibels(signal: float, noise: float) -> float:
    """Return 10·log10(signal / noise), capped at ±200 dB; 200 without noise, −200 with noise alone."""
    if noise == 0.0:
        return CAP_DB
    if signal == 0.0:
        return -CAP_DB
    return max(-CAP_DB, min(CAP_DB, 10.0 * (math.log10(signal) - math.log10(noise))))


def summarize(outputs: Mapping[str, OutputError], samples: int) -> dict[str, Any]:
    """Return the report's `numerics`: the worst output by SQNR, and each output's own figures."""
    worst = min(outputs, key=lambda name: outputs[name].sqnr_db)
    return {
        "sqnr_db": outputs[worst].sqnr_db,
        "psnr_db": outputs[worst].psnr_db,
        "cosine": outputs[worst].cosine,
        "max_abs_error": max(error.max_abs_error for error in outputs.values()),
        "worst_output": worst,
        "samples": samples,
        "per_output": [{"name": name, **error.figures} for name, error in outputs.items()],
    }
