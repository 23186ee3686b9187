"""Metrics: how good outputs are, as one number with its interval. One file per kind; NumPy only.

They run beside the artifact on the target's own host, which may be a board with little more than NumPy. The tests hold
them against the libraries of their field: scikit-learn, pycocotools, jiwer. What labels they take: docs/accuracy.md.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from farm.domain.errors import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """A value and its 95 % interval."""

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """What outputs are read by: the shape of one sample's output, and the words of its ids where the data has them."""

    shape: tuple[int, ...]
    vocabulary: tuple[str, ...] = ()


class Tally(Protocol):
    """Running sums over samples; `truth` is the label, or the float output where the metric needs no label."""

    def add(self, output: Array, truth: Array) -> None: ...

    def score(self) -> Scored: ...


@dataclass(frozen=True, slots=True)
class Metric:
    """A named metric.

    Attributes:
        needs_labels: it compares with labels; otherwise with the source's float outputs.
        start: make an empty tally.
        gather: make one array of all the outputs of a sample, by name; without it one output is taken.
    """

    name: str
    needs_labels: bool
    start: Callable[[Scale], Tally]
    gather: Callable[[Mapping[str, Array]], Array] | None = None


@cache
def load_metrics() -> dict[str, Metric]:
    """Find every metric of this package, by name."""
    modules = pkgutil.iter_modules(__path__, prefix=f"{__name__}.")
    found = (metric for m in modules for metric in getattr(importlib.import_module(m.name), "METRICS", ()))
    return {metric.name: metric for metric in sorted(found, key=lambda metric: metric.name)}


def metric_named(name: str) -> Metric:
    """Return a metric.

    Raises:
        BadRequest: there is none of this name; near misses are named.
    """
    known = load_metrics()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}."
    raise BadRequest(f"There is no metric {name!r}: {hint}")
