"""Whether an application written for one artifact runs with another: what it calls, in which form, and what it gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tensor = Mapping[str, Any]
Body = Mapping[str, Any]
"""A result in the fields of report.schema.json; of a bare file `target_runtime` and what was declared are missing."""

TOLERANCE_DB = 20.0
"""Outputs nearer to the source than this are taken for the same by most applications: quantized results' own line."""
SAME_DB = 0.5
"""Two results under that line are as good as each other within this."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same; `breaks` when the application has to be changed for it, as `remedy` says."""

    subject: str
    message: str
    breaks: bool
    remedy: str = ""


def compare(ours: Body, theirs: Body) -> list[Difference]:
    """List what an application written for `ours` meets with `theirs`, what breaks it first."""
    found = [
        *_sides(ours, theirs, "inputs", "input"),
        *_sides(ours, theirs, "outputs", "output"),
        *_runtime(ours, theirs),
        *_preprocessing(ours, theirs),
        *_labels(ours, theirs),
        *_tolerance(ours, theirs),
    ]
    return sorted(found, key=lambda difference: not difference.breaks)


def is_compatible(differences: Sequence[Difference]) -> bool:
    return not any(difference.breaks for difference in differences)


def _sides(ours: Body, theirs: Body, field: str, what: str) -> Iterator[Difference]:
    mine, other = ours["artifact"][field], theirs["artifact"][field]
    if len(mine) != len(other):
        remedy = "feed" if what == "input" else "read"
        names = ", ".join(tensor["name"] for tensor in other)
        yield Difference(what, f"{len(mine)} {field} became {len(other)}", True, f"{remedy} {names}")
    by_name = {tensor["name"]: tensor for tensor in other}
    if {tensor["name"] for tensor in mine} == set(by_name):
        if [tensor["name"] for tensor in mine] != [tensor["name"] for tensor in other]:
            order = ", ".join(tensor["name"] for tensor in other)
            remedy = f"go by name, or take the {field} in this order"
            yield Difference(what, f"the {field} come in another order: {order}", True, remedy)
        pairs = [(tensor, by_name[tensor["name"]]) for tensor in mine]
    else:
        pairs = list(zip(mine, other, strict=False))
    for one, another in pairs:
        yield from _tensor(one, another, f"{what} {one['name']}")


def _tensor(one: Tensor, other: Tensor, subject: str) -> Iterator[Difference]:
    if one["name"] != other["name"]:
        yield Difference(subject, f"is called {other['name']}", True, f"use the name {other['name']}")
    scales = [(tensor.get("scale"), tensor.get("zero_point")) for tensor in (one, other)]
    quantized = scales[0] != scales[1]
    if one["dtype"] != other["dtype"]:
        told = f"{one['dtype']} became {other['dtype']}"
        yield Difference(subject, told, True, "" if quantized else f"convert to {other['dtype']}")
    yield from _shape(one.get("shape"), other.get("shape"), subject)
    if quantized:
        told = " became ".join(f"scale {scale}, zero point {zero}" for scale, zero in scales)
        yield Difference(subject, told, True, _quantizing(*scales[1], is_input=subject.startswith("input")))


def _quantizing(scale: float | None, zero_point: int | None, *, is_input: bool) -> str:
    if scale is None:
        return "feed real values" if is_input else "take the values as they are"
    if is_input:
        return f"feed round(value / {scale}) + {zero_point or 0}"
    return f"read (value - {zero_point or 0}) * {scale}"


def _shape(one: Sequence[Any] | None, other: Sequence[Any] | None, subject: str) -> Iterator[Difference]:
    if one is None or other is None or list(one) == list(other):
        return
    told = f"{list(one)} became {list(other)}"
    same_rank = len(one) == len(other)
    if same_rank and all(isinstance(b, str) or a == b for a, b in zip(one, other, strict=True)):
        yield Difference(subject, f"{told}: it takes other sizes too", breaks=False)
    elif same_rank and sorted(map(str, one)) == sorted(map(str, other)):
        yield Difference(subject, f"{told}: the axes are in another order (layout)", True, _transposing(one, other))
    else:
        yield Difference(subject, told, True, f"bring it to {list(other)}" if same_rank else "reshape it")


def _transposing(one: Sequence[Any], other: Sequence[Any]) -> str:
    """Say how axes move; of equal sizes the earlier one goes first."""
    left, axes = list(enumerate(one)), []
    for size in other:
        place = next(index for index, (_, found) in enumerate(left) if str(found) == str(size))
        axes.append(left.pop(place)[0])
    return f"transpose by {axes}"


def _runtime(ours: Body, theirs: Body) -> Iterator[Difference]:
    named = [body.get("target_runtime") for body in (ours, theirs)]
    formats = [body["artifact"].get("format") for body in (ours, theirs)]
    if all(named) and named[0] != named[1]:
        told = " became ".join(f"{name} ({fmt})" for name, fmt in zip(named, formats, strict=True))
        remedy = f"load it with {named[1]}"
        yield Difference("runtime", f"{told}: the application loads it with another library", True, remedy)
    elif formats[0] != formats[1]:
        yield Difference("format", f"{formats[0]} became {formats[1]}", True, "load it with a runtime that takes it")


def _preprocessing(ours: Body, theirs: Body) -> Iterator[Difference]:
    mine, other = (body.get("preprocessing") for body in (ours, theirs))
    if mine == other:
        return
    if _is_bare(ours, theirs):
        yield Difference("preprocessing", f"declared of one only, and not known of the other: {mine or other}", False)
        return
    if not mine or not other:
        told = "was declared and is not" if mine else "was not declared and is"
        yield Difference("preprocessing", f"{told}: {mine or other}", True, "see whether the application does the same")
        return
    for key in sorted(mine.keys() | other.keys()):
        if mine.get(key) != other.get(key):
            told = f"{mine.get(key)} became {other.get(key)}"
            yield Difference(f"preprocessing {key}", told, True, f"prepare inputs with {key} {other.get(key)}")


def _is_bare(*bodies: Body) -> bool:
    """Tell whether one of them is only a file, of which nobody declared anything."""
    return not all(body.get("target_runtime") for body in bodies)


def _labels(ours: Body, theirs: Body) -> Iterator[Difference]:
    mine, other = (list(body.get("labels") or ()) for body in (ours, theirs))
    if mine == other or _is_bare(ours, theirs):
        return
    if len(mine) != len(other) or not mine:
        told = f"{len(mine)} class names became {len(other)}"
    else:
        place = next(index for index, pair in enumerate(zip(mine, other, strict=True)) if pair[0] != pair[1])
        told = f"class {place} was {mine[place]!r} and is {other[place]!r}"
    yield Difference("labels", told, True, "take the class names that come with the other artifact")


def _tolerance(ours: Body, theirs: Body) -> Iterator[Difference]:
    """Hold both fidelities to the source; what is nearer than the line counts as the same, what is not breaks."""
    mine, other = ((body.get("numerics") or {}).get("sqnr_db") for body in (ours, theirs))
    if mine is None or other is None:
        yield Difference("numerics", "it is not known how near the outputs are", breaks=False)
    elif other < TOLERANCE_DB and other < mine:
        told = f"{mine:.1f} dB to the source became {other:.1f} dB, under {TOLERANCE_DB:g} dB"
        yield Difference("numerics", told, mine - other > SAME_DB, "check on your own data what it still tells apart")
