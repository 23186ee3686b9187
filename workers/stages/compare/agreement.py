"""Whether an artifact's inputs and outputs are what its route declared."""

from __future__ import annotations

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import ContractMismatch
from farm.domain.facts import Axis, TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE


def check_contract(contract: Contract, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Hold what the runtime sees against the declared artifact tensors, by name.

    Raises:
        ContractMismatch: all differences at once.
    """
    differences = [*_differences(contract.inputs, inputs, "input"), *_differences(contract.outputs, outputs, "output")]
    if differences:
        raise ContractMismatch(
            f"The artifact's inputs or outputs are not what its route declares: {'; '.join(differences)}.",
            differences=differences,
        )


def _differences(declared: tuple[Binding, ...], found: tuple[TensorSpec, ...], what: str) -> list[str]:
    wanted = {binding.artifact.name: binding.artifact for binding in declared}
    present = {spec.name: spec for spec in found}
    differences = [f"{what} {name!r} is missing" for name in wanted if name not in present]
    differences += [f"{what} {name!r} was not declared" for name in present if name not in wanted]
    for name in wanted.keys() & present.keys():
        if not _fits(wanted[name], present[name]):
            differences.append(f"{what} {wanted[name]} was declared, and it is {present[name]}")
    return differences


def _fits(declared: TensorSpec, found: TensorSpec) -> bool:
    if UNKNOWN_DTYPE not in (declared.dtype, found.dtype) and declared.dtype != found.dtype:
        return False
    if declared.shape is None or found.shape is None:
        return True
    if len(declared.shape) != len(found.shape):
        return False
    return all(_axis_fits(a, b) for a, b in zip(declared.shape, found.shape, strict=True))


def _axis_fits(declared: Axis, found: Axis) -> bool:
    """Compare two axes; an open one fits any size."""
    return isinstance(declared, str) or isinstance(found, str) or declared == found
