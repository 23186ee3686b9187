"""What an eager module returns, found by running it once or twice at small sizes.

Tested with torch 2.13.0. Source: PyTorch, torch.nn.Module: only a run tells what an eager module returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from farm.domain.errors import FarmError
from farm.domain.facts import Axis, TensorSpec
from workers.stages.samples import Ranges, seeded_probe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Run = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]


def observed_outputs(
    run: Run,
    inputs: tuple[TensorSpec, ...],
    *,
    small: Mapping[str, int],
    larger: Mapping[str, int],
    ranges: Ranges | None = None,
) -> tuple[TensorSpec, ...]:
    """Run at two sizes of the open axes; an output's axis that follows one of them takes its name.

    Args:
        run: the module, from arrays by input name to arrays by output name.
        inputs: open axes by name; one that neither table knows makes the outputs unknown.
        small: a size for each open axis.
        larger: another one; a module that refuses it has the outputs of the first.
        ranges: what inputs may hold.

    Raises:
        FarmError: the module refuses the first.
    """
    names = {axis for spec in inputs for axis in spec.shape or () if isinstance(axis, str)}
    if any(spec.shape is None for spec in inputs) or not names <= set(small):
        return ()
    first = run(seeded_probe(_sized(inputs, small), ranges))
    second = None
    if names:
        try:
            second = run(seeded_probe(_sized(inputs, larger), ranges))
        except (FarmError, RuntimeError, ValueError, TypeError, LookupError):
            second = None
    return tuple(
        TensorSpec(name, array.dtype.name, _shape(array, (second or first).get(name), small, larger, names))
        for name, array in first.items()
    )


def _sized(inputs: tuple[TensorSpec, ...], sizes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    return tuple(
        spec.with_shape(tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape or ()))
        for spec in inputs
    )


def _shape(
    first: NDArray[Any],
    second: NDArray[Any] | None,
    small: Mapping[str, int],
    larger: Mapping[str, int],
    names: set[str],
) -> tuple[Axis, ...]:
    if second is None or second.ndim != first.ndim:
        return tuple(first.shape)
    followed = {(small[name], larger[name]): name for name in sorted(names)}
    return tuple(
        one if one == other else followed.get((one, other), "?")
        for one, other in zip(first.shape, second.shape, strict=True)
    )


def leaf_modules(module: Any) -> dict[str, int]:
    """Count the modules that hold no others, by class."""
    leaves = (part for part in module.modules() if not list(part.children()))
    return dict(Counter(type(part).__name__ for part in leaves))
