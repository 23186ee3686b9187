"""Fixed input specs from what the file declares and what the user adds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from farm.domain.errors import BadData, BadRequest, FarmError, OpenAxis
from farm.domain.facts import Axis, ModelFacts, TensorSpec

DTYPES = (
    "float32",
    "float16",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
)
UNKNOWN_DTYPE = "unknown"
LABELS = "labels"
VOCABULARY = "vocabulary"
"""Arrays of a data file that are no input: what is right, and the text of each id where labels are texts."""
_SPEC = re.compile(r"(?P<name>.+):(?P<dtype>[a-z0-9]+)\[(?P<shape>[^\]]*)\](\s+in\s+(?P<span>.+))?")
_LARGEST = {"float16": 65504.0, "float32": 3.4028234663852886e38, "float64": math.inf}


@dataclass(frozen=True, slots=True)
class GivenInput:
    """What a user says of an input; `span` is the least and the greatest value that it takes, None where unsaid."""

    spec: TensorSpec
    span: tuple[float, float] | None = None

    def __str__(self) -> str:
        return f"{self.spec} in {'..'.join(map(_number, self.span))}" if self.span else str(self.spec)


def parse_input(text: str) -> GivenInput:
    """Read NAME:DTYPE[D,D,…], or that and `in LOW..HIGH`; the name may hold ':' and '/'.

    Raises:
        BadRequest: another form, an unknown dtype, a size that is not a positive integer, or a range of no value.
    """
    found = _SPEC.fullmatch(text.strip())
    if not found:
        raise BadRequest(
            f"Input {text!r} is not of the form NAME:DTYPE[D,D,…], e.g. x:float32[1,3,224,224].",
            remedy="Where the model takes only certain values, add them: 'x:float32[1,3,224,224] in 0..255'.",
        )
    if found["dtype"] not in DTYPES:
        raise BadRequest(f"Input {text!r} has dtype {found['dtype']!r}; known are {', '.join(DTYPES)}.")
    sizes = [size.strip() for size in found["shape"].split(",")] if found["shape"].strip() else []
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise BadRequest(f"Input {text!r} has an axis that is not a positive integer.")
    spec = TensorSpec(found["name"], found["dtype"], tuple(int(size) for size in sizes))
    return GivenInput(spec, _span(text, spec.dtype, found["span"]) if found["span"] else None)


def within(
    facts: ModelFacts,
    given: Iterable[GivenInput],
    *,
    prepared: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> ModelFacts:
    """Add the ranges that a user gave to those that the model declares itself, whose place they take.

    `prepared` are the ranges that preprocessing leads to: where neither says one.
    """
    spans = {one.spec.name: one.span for one in given if one.span}
    if not spans and not prepared:
        return facts
    return replace(facts, extra={**facts.extra, "ranges": {**prepared, **(facts.extra.get("ranges") or {}), **spans}})


def fix_inputs(
    declared: Sequence[TensorSpec], given: Sequence[TensorSpec]
) -> tuple[tuple[TensorSpec, ...], list[FarmError]]:
    """Give every axis a size: the user's where given, 1 for an open leading axis, else an error per tensor.

    Returns: the fixed specs in the file's order, and all reasons against them at once.
    """
    overrides = {spec.name: spec for spec in given}
    known = {spec.name for spec in declared}
    errors: list[FarmError] = [
        BadRequest(f"The model has no input {name!r}; its inputs are {', '.join(sorted(known)) or 'unnamed'}.")
        for name in overrides
        if name not in known
    ]
    fixed = []
    for spec in declared:
        try:
            fixed.append(_fix(spec, overrides.get(spec.name)))
        except FarmError as error:
            errors.append(error)
    return tuple(fixed), errors


def batch_fixed(declared: Sequence[TensorSpec], fixed: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Say which open axes were given a size, as contract changes."""
    changes = []
    for before, after in zip(declared, fixed, strict=True):
        for axis in before.open_axes:
            name = before.shape[axis] if before.shape else "?"
            changes.append(f"input {before.name}: axis {axis} ({name}) fixed at {after.static_shape[axis]}")
    return tuple(changes)


def check_arrays(
    arrays: Mapping[str, Mapping[str, object]], inputs: Iterable[TensorSpec], *, what: str, needs_labels: bool = False
) -> list[FarmError]:
    """Hold a data file's arrays ({name: {dtype, shape}}) against the fixed inputs; all reasons at once."""
    errors: list[FarmError] = []
    counts: dict[str, int] = {}
    for spec in inputs:
        found = arrays.get(spec.name)
        if found is None:
            present = ", ".join(sorted(arrays)) or "nothing"
            errors.append(
                BadData(
                    f"The {what} data has no array {spec.name!r}; it holds {present}.",
                    remedy=f"Save it with numpy.savez(file, **{{{spec.name!r}: array}}).",
                )
            )
            continue
        shape = _shape_of(found)
        if not _fits(shape, spec.static_shape):
            one = spec.static_shape[1:] if spec.static_shape[:1] == (1,) else spec.static_shape
            want = ",".join(map(str, ("N", *one)))
            errors.append(BadData(f"The {what} array {spec.name!r} has shape {list(shape)}; ({want}) is needed."))
        elif found.get("dtype") != spec.dtype:
            errors.append(
                BadData(
                    f"The {what} array {spec.name!r} has dtype {found.get('dtype')}; {spec.dtype} is needed.",
                    remedy=f"Convert it with array.astype('{spec.dtype}').",
                )
            )
        else:
            counts[spec.name] = shape[0]
    if needs_labels and LABELS not in arrays:
        errors.append(BadData(f"The {what} data has no array 'labels', which the metric needs."))
    elif needs_labels:
        counts[LABELS] = (_shape_of(arrays[LABELS]) or (0,))[0]
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        errors.append(BadData(f"The {what} arrays hold different numbers of samples: {listed}."))
    if 0 in counts.values():
        errors.append(BadData(f"The {what} data holds no sample."))
    return errors


def _span(text: str, dtype: str, told: str) -> tuple[float, float]:
    """Read LOW..HIGH, between which a value of the dtype must lie."""
    low, _, high = told.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] <= ends[1]):
        raise BadRequest(f"Input {text!r} lies in {told!r}, which is not LOW..HIGH, e.g. 0..255.")
    if dtype in _LARGEST:
        holds = -_LARGEST[dtype] <= ends[0] and ends[1] <= _LARGEST[dtype]
    else:
        least, most = _integers(dtype)
        holds = max(math.ceil(ends[0]), least) <= min(math.floor(ends[1]), most)
    if not holds:
        raise BadRequest(f"Input {text!r} lies in {told}, where {dtype} has no values.")
    return ends


def _integers(dtype: str) -> tuple[int, int]:
    """Return the least and the greatest integer of a dtype; a bool has no range to choose from."""
    if dtype == "bool":
        return 1, 0
    bits = int(dtype.lstrip("uint"))
    return (0, (1 << bits) - 1) if dtype.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _fix(spec: TensorSpec, override: TensorSpec | None) -> TensorSpec:
    if override is not None:
        return _merge(spec, override)
    if spec.shape is None or spec.dtype == UNKNOWN_DTYPE:
        raise OpenAxis(
            f"The file does not say shape and dtype of input {spec.name!r}.",
            remedy=f"Add --input '{spec.name}:float32[1,…]' with its sizes.",
        )
    leading, *others = spec.shape or (1,)
    shape: tuple[Axis, ...] = (1 if isinstance(leading, str) else leading, *others) if spec.shape else ()
    fixed = spec.with_shape(shape)
    if fixed.open_axes:
        named = ", ".join(f"{axis} ({shape[axis]})" for axis in fixed.open_axes)
        example = ",".join(str(size) if isinstance(size, int) else "SIZE" for size in shape)
        raise OpenAxis(
            f"Input {spec.name!r} has an open axis {named}; a target file needs a size for each.",
            remedy=f"Add --input '{spec.name}:{spec.dtype}[{example}]' with a number for SIZE.",
        )
    return fixed


def _merge(spec: TensorSpec, override: TensorSpec) -> TensorSpec:
    if spec.dtype not in (UNKNOWN_DTYPE, override.dtype):
        raise BadRequest(f"Input {spec.name!r} is {spec.dtype} in the file, not {override.dtype}.")
    if spec.shape is not None:
        fits = len(spec.shape) == len(override.shape or ()) and all(
            isinstance(declared, str) or declared == size
            for declared, size in zip(spec.shape, override.shape or (), strict=False)
        )
        if not fits:
            raise BadRequest(f"Input {override} does not fit what the file declares, {spec}.")
    return TensorSpec(spec.name, override.dtype, override.shape, spec.scale, spec.zero_point)


def _shape_of(found: Mapping[str, object]) -> tuple[int, ...]:
    shape = found.get("shape")
    return tuple(int(size) for size in shape) if isinstance(shape, (list, tuple)) else ()


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether an array holds samples, with or without the batch axis of one; a 0-d array holds none."""
    if not shape:
        return False
    return shape[1:] == wanted or (wanted[:1] == (1,) and shape[1:] == wanted[1:])
