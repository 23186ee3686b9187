"""Whether an artifact's inputs and outputs are what its route declared, and every way they differ from the source's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import ContractMismatch
from farm.domain.facts import Axis, TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE
from workers.stages.contracts import told_changes

SCALE_TOLERANCE = 1e-5
"""Relative: scales are stored as 32-bit floats."""
WAY_OUT = (
    "Take another route or runtime (`farm routes`); a stage of your own must return the contract of the file it writes."
)


def check_contract(contract: Contract, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Hold what the runtime sees against the declared artifact tensors by name, and these against the source's.

    Compared are names, dtypes, shapes, the order of axes, scale and zero point. A file's own order of tensors binds
    nothing, since they go by name: see `changes_seen`.

    Raises:
        ContractMismatch: all differences at once.
    """
    differences = [
        *_differences(contract.inputs, inputs, "input"),
        *_differences(contract.outputs, outputs, "output"),
    ]
    if differences:
        raise ContractMismatch(
            f"The artifact's inputs or outputs are not what its route declares: {'; '.join(differences)}.",
            remedy=WAY_OUT,
            differences=differences,
        )


def changes_seen(
    contract: Contract, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> tuple[str, ...]:
    """List every difference from the source: what stages declared, what bindings hold, and another order of tensors."""
    orders = (_reordered(contract.inputs, inputs, "inputs"), _reordered(contract.outputs, outputs, "outputs"))
    found = (*contract.changes, *told_changes(contract), *filter(None, orders))
    return tuple(dict.fromkeys(found))


def _reordered(bindings: tuple[Binding, ...], found: tuple[TensorSpec, ...], what: str) -> str | None:
    """Say in which order a file holds the source's tensors, where that is another."""
    source = {binding.artifact.name: binding.source.name for binding in bindings}
    held = [source[spec.name] for spec in found if spec.name in source]
    return f"{what}: in the order {', '.join(held)}" if held != [binding.source.name for binding in bindings] else None


def _differences(declared: tuple[Binding, ...], found: tuple[TensorSpec, ...], what: str) -> Iterator[str]:
    wanted = {binding.artifact.name: binding for binding in declared}
    present = {spec.name: spec for spec in found}
    yield from (f"{what} {name!r} is missing" for name in wanted if name not in present)
    yield from (f"{what} {name!r} was not declared" for name in present if name not in wanted)
    for name, binding in wanted.items():
        if not _stands_for(binding):
            order = f" by the order of axes {list(binding.transpose)}" if binding.transpose else ""
            yield f"{what} {binding.artifact} can't stand for the source's {binding.source}{order}"
        if name in present:
            yield from _unlike(binding, present[name], what)


def _unlike(binding: Binding, found: TensorSpec, what: str) -> Iterator[str]:
    declared = binding.artifact
    if not _fits(declared, found):
        yield f"{what} {declared} was declared, and it is {found}"
    elif _scales_differ(binding, found):
        yield f"{what} {found.name!r} was declared with {_scaled(declared)}, and it has {_scaled(found)}"


def _stands_for(binding: Binding) -> bool:
    """Tell whether the source's axes, in the declared order, are the artifact's."""
    source, order = binding.source.shape, binding.transpose
    if order is not None and sorted(order) != list(range(len(order))):
        return False
    if source is None or binding.artifact.shape is None:
        return True
    if order is not None and len(order) != len(source):
        return False
    return _axes_fit([source[axis] for axis in order] if order else source, binding.artifact.shape)


def _scales_differ(binding: Binding, found: TensorSpec) -> bool:
    """Tell whether integers would stand for other real values; a runtime that tells no scale agrees with any."""
    declared = binding.artifact
    if found.scale is None:
        return False
    if declared.scale is None:
        return binding.source.dtype.startswith("float")
    same = math.isclose(declared.scale, found.scale, rel_tol=SCALE_TOLERANCE)
    return not same or (declared.zero_point or 0) != (found.zero_point or 0)


def _scaled(spec: TensorSpec) -> str:
    return "no scale" if spec.scale is None else f"scale {spec.scale:.6g} and zero point {spec.zero_point or 0}"


def _fits(declared: TensorSpec, found: TensorSpec) -> bool:
    if UNKNOWN_DTYPE not in (declared.dtype, found.dtype) and declared.dtype != found.dtype:
        return False
    return declared.shape is None or found.shape is None or _axes_fit(declared.shape, found.shape)


def _axes_fit(declared: Sequence[Axis], found: Sequence[Axis]) -> bool:
    """Compare axes one by one; an open one fits any size."""
    if len(declared) != len(found):
        return False
    return all(isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(declared, found, strict=True))
