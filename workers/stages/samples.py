"""Inputs to run a model on: a seeded probe, and the user's samples in an artifact's own terms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
    import torch
    from numpy.typing import NDArray

SEED = 20_260
Feeds = dict[str, "NDArray[Any]"]


Ranges = Mapping[str, tuple[float, float]]
"""The least and the greatest value of inputs, by name."""


def seeded_probe(
    specs: tuple[TensorSpec, ...], ranges: Ranges | None = None, *, seed: int = SEED, positive: bool = False
) -> Feeds:
    """Make one input per tensor whose elements all differ, so that a swapped axis changes the result.

    Floats are standard normal, or uniform in [0, 1) when `positive`; bytes span their range; wider integers
    and booleans are 0 or 1, valid as token, mask and index of nearly every model. What `ranges` names is uniform
    between those ends, both included where it is an integer.

    Raises:
        BadData: a range that holds no value of its input's dtype.
    """
    import numpy as np

    rng, told = np.random.default_rng(seed), ranges or {}
    return {
        spec.name: between(rng, spec, told[spec.name]) if spec.name in told else _draw(rng, spec, positive)
        for spec in specs
    }


def example_tensors(
    specs: tuple[TensorSpec, ...], ranges: Ranges | None = None, *, seed: int = SEED
) -> tuple[torch.Tensor, ...]:
    """Return a seeded probe as torch tensors in order, for what has to run a module to convert it."""
    import torch

    return tuple(torch.from_numpy(array) for array in seeded_probe(specs, ranges, seed=seed).values())


def artifact_ranges(contract: Contract, ranges: Ranges | None) -> dict[str, tuple[float, float]]:
    """Name the ranges of a source's inputs as its artifact does; quantized inputs span their integers, so have none."""
    told = ranges or {}
    return {
        binding.artifact.name: told[binding.source.name]
        for binding in contract.inputs
        if binding.source.name in told and binding.artifact.scale is None
    }


def between(rng: np.random.Generator, spec: TensorSpec, ends: tuple[float, float]) -> NDArray[Any]:
    """Draw a tensor uniformly between two ends, both included where it holds integers.

    Raises:
        BadData: no value of its dtype lies between them.
    """
    import numpy as np

    (low, high), dtype = ends, np.dtype(spec.dtype)
    if dtype.kind not in "iu":
        return np.asarray(rng.uniform(low, high, spec.static_shape)).astype(dtype)
    limits = np.iinfo(dtype)
    least, most = max(math.ceil(low), limits.min), min(math.floor(high), limits.max)
    if least > most:
        raise BadData(f"The declared range {low:g} … {high:g} holds no value of {dtype}.")
    return np.asarray(rng.integers(least, most, spec.static_shape, dtype=dtype, endpoint=True))


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
