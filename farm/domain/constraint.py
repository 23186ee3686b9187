"""Constraints on a result: "p90 <= 20ms", "accuracy >= 0.99*float", "size <= 5MB"."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from farm.domain.catalogue import near_misses
from farm.domain.data import CHOSEN_BY
from farm.domain.errors import BadRequest
from farm.domain.metric import LOWER_IS_BETTER

Body = Mapping[str, Any]
"""A result in the fields of report.schema.json."""

_FORM = re.compile(
    r"(?P<name>[a-z0-9_]+)\s*(?P<sign><=|>=)\s*(?P<number>\d+(\.\d+)?([eE][-+]?\d+)?)\s*(?P<unit>\*\s*float|[A-Za-z%]*)"
)
_MICROSECONDS = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_DECIBELS = {"dB": 1.0}
_PLAIN = {"": 1.0, "%": 0.01}
_LEAST = 1e-9
"""What stands for nothing where a factor is asked for."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a constraint is about.

    Attributes:
        units: unit -> factor to the report's own unit (µs, bytes, dB, 1); the first is what is shown.
        higher_is_better: whether more of it is wanted.
        needs_measurement: it counts only when the measurement is valid.
        read: its value in a result; None when the result does not say.
    """

    name: str
    units: Mapping[str, float]
    higher_is_better: bool
    needs_measurement: bool
    read: Callable[[Body], float | None]

    @property
    def sign(self) -> str | None:
        """The only sign that makes sense of it; None of accuracy, which may be an error."""
        if self.name == "accuracy":
            return None
        return ">=" if self.higher_is_better else "<="

    @property
    def is_time(self) -> bool:
        return self.units is _MICROSECONDS

    def show(self, value: float) -> str:
        """Write a value in the unit that fits its size."""
        fitting = [(unit, factor) for unit, factor in self.units.items() if unit != "%" and value >= factor]
        unit, factor = max(fitting, key=lambda one: one[1]) if fitting else next(iter(self.units.items()))
        return f"{value / factor:.4g} {unit}".strip()


def _field(part: str, name: str) -> Callable[[Body], float | None]:
    return lambda body: (body.get(part) or {}).get(name)


def _chosen_by(part: str, name: str) -> Callable[[Body], float | None]:
    """Read a figure of the samples by which is chosen, where those that are reported are others."""
    return lambda body: _deciding(body, part).get(name)


def _deciding(body: Body, part: str) -> Mapping[str, Any]:
    told: Mapping[str, Any] = body.get(part) or {}
    chosen: Mapping[str, Any] | None = told.get(CHOSEN_BY)
    return chosen or told


def _peak(body: Body) -> float | None:
    peaks = (body.get("execution_summary") or {}).get("inference_memory_peak_range")
    return max(peaks) if peaks else None


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("accuracy", _PLAIN, True, False, _chosen_by("accuracy", "value")),
        Quantity("sqnr", _DECIBELS, True, False, _chosen_by("numerics", "sqnr_db")),
        Quantity("size", _BYTES, False, False, _field("artifact", "size_bytes")),
        Quantity("p50", _MICROSECONDS, False, True, _field("execution_summary", "p50")),
        Quantity("p90", _MICROSECONDS, False, True, _field("execution_summary", "p90")),
        Quantity("p99", _MICROSECONDS, False, True, _field("execution_summary", "p99")),
        Quantity("first_load", _MICROSECONDS, False, True, _field("execution_summary", "first_load_time")),
        Quantity("memory", _BYTES, False, True, _peak),
    )
}
_OF_SAMPLES = {"accuracy": "accuracy", "sqnr": "numerics"}
EXAMPLES = "'accuracy >= 0.99*float', 'p90 <= 20ms', 'size <= 5MB', 'sqnr >= 20dB'"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on one quantity, in the report's units; relative bounds are factors of the float32 result's value."""

    quantity: Quantity
    sign: str
    bound: float
    relative: bool
    text: str

    def broken_by(self, body: Body, baseline: Body | None) -> str | None:
        """Say how a result breaks it; None when it holds.

        Args:
            body: the result.
            baseline: the float32 result of the same runtime; accuracy brings its own float value.
        """
        if self.quantity.needs_measurement and (body.get("conditions") or {}).get("valid") is not True:
            why = ", ".join((body.get("conditions") or {}).get("reasons", ())) or "not measured"
            return f"its {self.quantity.name} is not known: no valid measurement ({why})"
        value, limit = self.quantity.read(body), self._limit(body, baseline)
        if value is None or limit is None:
            return f"its {self.quantity.name} is not known"
        if self._holds(value, limit, body):
            return None
        shown = f"{self.quantity.name} {self.quantity.show(value)}{where_read(self.quantity, body)}"
        return f"{shown}, asked for {self.text}" + (f" ({self.quantity.show(limit)})" if self.relative else "")

    def excess(self, body: Body, baseline: Body | None) -> float:
        """Return by which factor, as a logarithm, a result misses the bound; 0 when it holds, inf when unknown."""
        if self.broken_by(body, baseline) is None:
            return 0.0
        value, limit = self.quantity.read(body), self._limit(body, baseline)
        unmeasured = self.quantity.needs_measurement and (body.get("conditions") or {}).get("valid") is not True
        if value is None or limit is None or unmeasured:
            return math.inf
        if self.quantity.units is _DECIBELS:
            return abs(value - limit) * math.log(10) / 20
        return abs(math.log(max(value, _LEAST) / max(limit, _LEAST)))

    def _limit(self, body: Body, baseline: Body | None) -> float | None:
        if not self.relative:
            return self.bound
        if self.quantity.name == "accuracy":
            float_value: float | None = _deciding(body, "accuracy").get("float_value")
        else:
            float_value = self.quantity.read(baseline) if baseline else None
        if float_value is None:
            return None
        return float_value / self.bound if is_error(self.quantity, body) and self.bound else float_value * self.bound

    def _holds(self, value: float, limit: float, body: Body) -> bool:
        """Compare; an error metric is kept by staying below its float value divided by the share to keep."""
        at_least = (self.sign == ">=") != (self.relative and is_error(self.quantity, body))
        return value >= limit if at_least else value <= limit


def where_read(quantity: Quantity, body: Body) -> str:
    """Say of which samples a figure is, where they are others than those of the report."""
    part = _OF_SAMPLES.get(quantity.name)
    return " on the samples that select" if part and (body.get(part) or {}).get(CHOSEN_BY) else ""


def is_error(quantity: Quantity, body: Body) -> bool:
    """Tell whether a result's accuracy is an error, of which less is better."""
    return quantity.name == "accuracy" and (body.get("accuracy") or {}).get("metric") in LOWER_IS_BETTER


def burden(quantity: Quantity, body: Body) -> float | None:
    """Return a result's value turned so that less is better; None when the result does not say."""
    value = quantity.read(body)
    if value is None:
        return None
    return -value if quantity.higher_is_better and not is_error(quantity, body) else value


def parse_constraint(text: str) -> Constraint:
    """Read QUANTITY <= VALUE, or >=; VALUE has a unit, or is a factor: 0.99*float.

    Raises:
        BadRequest: another form, an unknown quantity, or a unit that does not fit it.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise BadRequest(f"Constraint {text!r} is not of the form QUANTITY <= VALUE or >=; for example {EXAMPLES}.")
    quantity = QUANTITIES.get(found["name"])
    if quantity is None:
        raise BadRequest(
            f"Constraint {text!r} is about {found['name']!r}, which no report has: "
            f"{near_misses(found['name'], QUANTITIES)}"
        )
    unit, number = found["unit"].replace(" ", ""), float(found["number"])
    if quantity.sign not in (None, found["sign"]):
        kind = "more" if quantity.higher_is_better else "less"
        raise BadRequest(
            f"Constraint {text!r} asks for the wrong side: of {quantity.name}, {kind} is wanted.",
            remedy=f"Write {text.replace(found['sign'], quantity.sign or '')!r}, or leave it out.",
        )
    if unit == "*float":
        return Constraint(quantity, found["sign"], number, relative=True, text=text.strip())
    if unit not in quantity.units:
        known = ", ".join(one or "no unit" for one in quantity.units)
        raise BadRequest(f"Constraint {text!r} gives {quantity.name} in {unit or 'no unit'}; known are {known}.")
    bound = number * quantity.units[unit]
    if quantity.name == "accuracy" and found["sign"] == ">=" and bound > 1:
        raise BadRequest(
            f"Constraint {text!r} can't hold: an accuracy, of which more is better, is 1 at most.",
            remedy=f"Write 'accuracy >= {number:g}%' or 'accuracy >= {number / 100:g}'." if number <= 100 else None,
        )
    return Constraint(quantity, found["sign"], bound, relative=False, text=text.strip())


def against_metrics(constraints: Iterable[Constraint], metrics: Iterable[str]) -> list[BadRequest]:
    """Find bounds on accuracy that are on the wrong side of every metric it is told by.

    Args:
        constraints: as they were read.
        metrics: those of the job's models.
    """
    errors = [name in LOWER_IS_BETTER for name in metrics]
    asked = [one for one in constraints if one.quantity.name == "accuracy"]
    upper = [] if any(errors) else [one for one in asked if one.sign == "<="]
    lower = [one for one in asked if one.sign == ">=" and not one.relative] if errors and all(errors) else []
    return [
        BadRequest(
            f"Constraint {one.text!r} asks for the wrong side: "
            f"of this job's accuracy, {'less' if one in lower else 'more'} is wanted."
        )
        for one in (*upper, *lower)
    ]


def contradictions(constraints: Iterable[Constraint]) -> list[BadRequest]:
    """Find constraints that no result can satisfy together: a lower bound above an upper one of the same kind."""
    listed = list(constraints)
    return [
        BadRequest(f"Constraints {low.text!r} and {high.text!r} contradict each other: nothing is both.")
        for low in listed
        for high in listed
        if (low.sign, high.sign) == (">=", "<=")
        and low.quantity is high.quantity
        and low.relative == high.relative
        and low.bound > high.bound
    ]
