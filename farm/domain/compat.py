"""Whether an application written for one artifact runs with another: what it calls, in which form, and what it gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tensor = Mapping[str, Any]
Body = Mapping[str, Any]
"""A result in the fields of report.schema.json."""

TOLERANCE_DB = 20.0
"""Outputs nearer to the source than this are taken for the same by most applications: quantized results' own line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same; `breaks` when the application has to be changed for it."""

    subject: str
    message: str
    breaks: bool


def compare(ours: Body, theirs: Body) -> list[Difference]:
    """List what an application written for `ours` meets with `theirs`, what breaks it first."""
    found = [
        *_sides(ours, theirs, "inputs", "input"),
        *_sides(ours, theirs, "outputs", "output"),
        *_runtime(ours, theirs),
        *_said(ours, theirs, "preprocessing"),
        *_said(ours, theirs, "labels"),
        *_tolerance(ours, theirs),
    ]
    return sorted(found, key=lambda difference: not difference.breaks)


def is_compatible(differences: Sequence[Difference]) -> bool:
    return not any(difference.breaks for difference in differences)


def _sides(ours: Body, theirs: Body, field: str, what: str) -> Iterator[Difference]:
    mine, other = ours["artifact"][field], theirs["artifact"][field]
    if len(mine) != len(other):
        yield Difference(what, f"{len(mine)} {field} became {len(other)}", breaks=True)
    by_name = {tensor["name"]: tensor for tensor in other}
    if {tensor["name"] for tensor in mine} == set(by_name):
        if [tensor["name"] for tensor in mine] != [tensor["name"] for tensor in other]:
            order = ", ".join(tensor["name"] for tensor in other)
            yield Difference(what, f"the {field} come in another order: {order}", breaks=True)
        pairs = [(tensor, by_name[tensor["name"]]) for tensor in mine]
    else:
        pairs = list(zip(mine, other, strict=False))
    for one, another in pairs:
        yield from _tensor(one, another, f"{what} {one['name']}")


def _tensor(one: Tensor, other: Tensor, subject: str) -> Iterator[Difference]:
    if one["name"] != other["name"]:
        yield Difference(subject, f"is called {other['name']}", breaks=True)
    if one["dtype"] != other["dtype"]:
        yield Difference(subject, f"{one['dtype']} became {other['dtype']}", breaks=True)
    yield from _shape(one.get("shape"), other.get("shape"), subject)
    scales = [(tensor.get("scale"), tensor.get("zero_point")) for tensor in (one, other)]
    if scales[0] != scales[1]:
        told = " became ".join(f"scale {scale}, zero point {zero}" for scale, zero in scales)
        yield Difference(subject, told, breaks=True)


def _shape(one: Sequence[Any] | None, other: Sequence[Any] | None, subject: str) -> Iterator[Difference]:
    if one is None or other is None or list(one) == list(other):
        return
    told = f"{list(one)} became {list(other)}"
    if len(one) == len(other) and all(isinstance(b, str) or a == b for a, b in zip(one, other, strict=True)):
        yield Difference(subject, f"{told}: it takes other sizes too", breaks=False)
    elif len(one) == len(other) and sorted(map(str, one)) == sorted(map(str, other)):
        yield Difference(subject, f"{told}: the axes are in another order (layout)", breaks=True)
    else:
        yield Difference(subject, told, breaks=True)


def _runtime(ours: Body, theirs: Body) -> Iterator[Difference]:
    mine, other = (f"{body['target_runtime']} ({body['artifact'].get('format')})" for body in (ours, theirs))
    if mine != other:
        yield Difference(
            "runtime", f"{mine} became {other}: the application loads it with another library", breaks=True
        )


def _said(ours: Body, theirs: Body, field: str) -> Iterator[Difference]:
    mine, other = ours.get(field), theirs.get(field)
    if mine != other:
        yield Difference(field, f"{mine} became {other}", breaks=True)


def _tolerance(ours: Body, theirs: Body) -> Iterator[Difference]:
    """Hold both fidelities to the source; what is nearer than the line counts as the same."""
    mine, other = ((body.get("numerics") or {}).get("sqnr_db") for body in (ours, theirs))
    if mine is None or other is None:
        yield Difference("numerics", "it is not known how near the outputs are", breaks=False)
    elif other < TOLERANCE_DB and other < mine:
        told = f"{mine:.1f} dB to the source became {other:.1f} dB, under {TOLERANCE_DB:g} dB"
        yield Difference("numerics", f"{told}: check it on your own data", breaks=False)
