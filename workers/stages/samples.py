"""Inputs to run a model on: a seeded probe, and the user's samples in an artifact's own terms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Contract
from farm.domain.codec import encode
from farm.domain.data import Split, joined, split
from farm.domain.errors import BadData
from farm.domain.facts import TensorSpec
from farm.domain.inputs import check_arrays
from workers.runtimes.binding import to_artifact
from workers.stages.npz import NpzReader, row_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 20_260
Feeds = dict[str, "NDArray[Any]"]


def seeded_probe(specs: tuple[TensorSpec, ...], *, seed: int = SEED, positive: bool = False) -> Feeds:
    """Make one input per tensor whose elements all differ, so that a swapped axis changes the result.

    Floats are standard normal, or uniform in [0, 1) when `positive`; bytes span their range; wider integers
    and booleans are 0 or 1, valid as token, mask and index of nearly every model.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    return {spec.name: _draw(rng, spec, positive) for spec in specs}


def iterate_samples(path: Path, input_specs: tuple[TensorSpec, ...], contract: Contract | None) -> Iterator[Feeds]:
    """Yield each sample of a calibration file as the artifact's inputs: transposed, cast and named as `contract` says.

    Args:
        path: .npz with one array per source input, (N, *shape), or (N, *shape[1:]) where shape[0] is 1.
        input_specs: the source's inputs, every axis fixed.
        contract: how the source's tensors appear in the artifact; None when the artifact is the source.

    Raises:
        BadData: a file that is no .npz or holds pickles, a missing array, one of the wrong shape or dtype.
    """
    bindings = (contract or Contract.identity(input_specs, ())).inputs
    with NpzReader(path, what="calibration") as data:
        if errors := check_arrays(encode(data.headers), input_specs, what="calibration"):
            raise BadData(" ".join(error.message for error in errors), remedy=errors[0].remedy)
        for row in zip(*(data.rows(spec.name) for spec in input_specs), strict=True):
            sample = {s.name: array.reshape(s.static_shape) for s, array in zip(input_specs, row, strict=True)}
            yield to_artifact(sample, bindings)


def split_rows(data: NpzReader, specs: tuple[TensorSpec, ...], *, reports: bool) -> Split:
    """Split a data file's rows by what they are for, by the values of the model's inputs as they are stored."""
    columns = [[row_digest(row) for row in data.rows(spec.name)] for spec in specs]
    return split(joined(columns), reports=reports)


def _draw(rng: np.random.Generator, spec: TensorSpec, positive: bool) -> NDArray[Any]:
    import numpy as np

    dtype, shape = np.dtype(spec.dtype), spec.static_shape
    if dtype.kind in "fc":
        return np.asarray(rng.random(shape) if positive else rng.standard_normal(shape)).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.asarray(rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True))
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
