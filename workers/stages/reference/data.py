"""The samples a source is run on: the user's rows, or seeded ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData, FarmError
from farm.domain.facts import TensorSpec
from farm.domain.inputs import check_arrays
from workers.stages.npz import NpzReader
from workers.stages.samples import Ranges, seeded_probe

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_data(data: NpzReader, specs: tuple[TensorSpec, ...]) -> None:
    """Hold the file's arrays against the source's inputs.

    Raises:
        BadData: all reasons at once; each names array, value and expectation.
    """
    arrays = {name: {"dtype": head.dtype, "shape": list(head.shape)} for name, head in data.headers.items()}
    errors: list[FarmError] = check_arrays(arrays, specs, what="given")
    if errors:
        raise BadData(" ".join(error.message for error in errors), remedy=errors[0].remedy)


def chosen_rows(available: Sequence[int], wanted: int) -> tuple[int, ...]:
    """Spread at most `wanted` rows evenly over those available, since files are often sorted by class."""
    count = min(len(available), wanted)
    return tuple(available[index * len(available) // count] for index in range(count))


def user_samples(
    data: NpzReader, specs: tuple[TensorSpec, ...], rows: tuple[int, ...]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the chosen rows as feeds of the source: (N, *shape), or (N, *shape[1:]) where shape[0] is 1.

    Raises:
        BadData: a value is not finite.
    """
    wanted = set(rows)
    columns = [data.rows(spec.name) for spec in specs]
    for index, values in enumerate(zip(*columns, strict=True)):
        if index in wanted:
            yield {s.name: _finite(s, value, index) for s, value in zip(specs, values, strict=True)}
        if index == rows[-1]:
            return


def _finite(spec: TensorSpec, value: NDArray[Any], index: int) -> NDArray[Any]:
    import numpy as np

    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise BadData(f"Sample {index} of array {spec.name!r} holds values that are not finite (NaN or infinity).")
    return value.reshape(spec.static_shape)


def generated_samples(
    specs: tuple[TensorSpec, ...],
    count: int,
    *,
    seed: int,
    span: tuple[float, float],
    ranges: Ranges | None = None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield seeded samples: floats uniform in `span`, 8-bit integers over their range, wider ones 0 or 1.

    An input that `ranges` names is uniform between those ends, both included where it is an integer.
    """
    (low, high), told = span, ranges or {}
    for index in range(count):
        drawn = seeded_probe(specs, told, seed=seed + index, positive=True)
        yield {
            name: (low + (high - low) * array).astype(array.dtype)
            if array.dtype.kind == "f" and name not in told
            else array
            for name, array in drawn.items()
        }
