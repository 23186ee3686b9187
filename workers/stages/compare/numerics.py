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
SILENT_RMS = 1e-3
"""What an output counts as that is zero in every sample: it has no signal, so that any rounding would be the floor.

An RMS error of 1e-5, which torch.testing.assert_close lets pass as float32's, is then 40 dB, and one of 1 is −60 dB.
"""


@dataclass(slots=True)
class OutputError:
    """Running sums over one output; arrays of any shape, in float64.

    `elements` counts all values. Those that are not finite are in no sum: an infinity that both sides have counts as
    equal, and one of the `unlike` others makes the ratios and the cosine the worst there are.
    """

    signal: float = 0.0
    noise: float = 0.0
    actual: float = 0.0
    dot: float = 0.0
    peak: float = 0.0
    max_abs_error: float = 0.0
    elements: int = 0
    unlike: int = 0

    def add(self, expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Add one sample of two equally shaped arrays."""
        import numpy as np

        x, y = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
        self.elements += x.size
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.all():
            self.unlike += int((x != y)[~finite].sum())
            x, y = x[finite], y[finite]
        error = x - y
        self.signal += float(x @ x)
        self.noise += float(error @ error)
        self.actual += float(y @ y)
        self.dot += float(x @ y)
        self.peak = max(self.peak, float(np.abs(x).max(initial=0.0)))
        self.max_abs_error = max(self.max_abs_error, float(np.abs(error).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float:
        """10·log10(Σ expected² / Σ (expected − actual)²), within ±200 dB; zero throughout counts as SILENT_RMS."""
        signal = self.signal or self.elements * SILENT_RMS**2
        return -CAP_DB if self.unlike else decibels(signal, self.noise)

    @property
    def psnr_db(self) -> float:
        """10·log10(max |expected|² / mean (expected − actual)²), within ±200 dB; likewise."""
        peak = self.peak or SILENT_RMS
        return -CAP_DB if self.unlike else decibels(peak**2, self.noise / max(self.elements, 1))

    @property
    def cosine(self) -> float:
        """Cosine of the angle between all expected and all actual values; 1 when both are zero, 0 if unlike."""
        norms = math.sqrt(self.signal) * math.sqrt(self.actual)
        if self.unlike or not math.isfinite(norms):
            return 0.0
        if norms == 0.0:
            return 1.0 if self.signal == self.actual else 0.0
        return max(-1.0, min(1.0, self.dot / norms))

    @property
    def figures(self) -> dict[str, float | None]:
        """Give the report's figures; an output without elements has no ratio and no cosine, since nothing was seen."""
        return {
            "sqnr_db": self.sqnr_db if self.elements else None,
            "psnr_db": self.psnr_db if self.elements else None,
            "cosine": self.cosine if self.elements else None,
            "max_abs_error": self.max_abs_error,
            "max_abs_value": self.peak,
        }


def decibels(signal: float, noise: float) -> float:
    """Return 10·log10(signal / noise), capped at ±200 dB; 200 without noise, −200 with noise alone or not finite."""
    if noise == 0.0 and not math.isnan(signal):
        return CAP_DB
    if signal == 0.0 or not (math.isfinite(signal) and math.isfinite(noise)):
        return -CAP_DB
    return max(-CAP_DB, min(CAP_DB, 10.0 * (math.log10(signal) - math.log10(noise))))


def summarize(outputs: Mapping[str, OutputError], samples: int) -> dict[str, Any]:
    """Return the report's `numerics`: the worst output by SQNR, and each output's own figures.

    `elements` counts the values of all outputs; where there is none, nothing was compared, and no ratio is told.
    """
    seen = [name for name in outputs if outputs[name].elements] or list(outputs)
    worst = min(seen, key=lambda name: outputs[name].sqnr_db)
    figures = outputs[worst].figures
    return {
        "sqnr_db": figures["sqnr_db"],
        "psnr_db": figures["psnr_db"],
        "cosine": figures["cosine"],
        "elements": sum(error.elements for error in outputs.values()),
        "max_abs_error": max(error.max_abs_error for error in outputs.values()),
        "worst_output": worst,
        "samples": samples,
        "per_output": [{"name": name, **error.figures} for name, error in outputs.items()],
    }
