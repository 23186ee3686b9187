"""Inputs to run a model on: a seeded probe, and the user's samples in an artifact's own terms."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import BadData
from farm.domain.facts import TensorSpec

if TYPE_CHECKING:
    import numpy as np

SEED = 20_260
Arrays = dict[str, "np.ndarray[Any, Any]"]


def seeded_probe(specs: tuple[TensorSpec, ...], *, seed: int = SEED, positive: bool = False) -> Arrays:
    """Make one input per tensor whose every element differs, so that a swapped axis changes the result.

    Floats are standard normal, or uniform in [0, 1) when `positive`; bytes span their range; wider integers
    and booleans are 0 or 1, valid as token, mask and index of nearly every model.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    return {spec.name: _draw(rng, spec, positive) for spec in specs}


def iterate_samples(path: Path, input_specs: tuple[TensorSpec, ...], contract: Contract | None) -> Iterator[Arrays]:
    """Yield each sample of an .npz as the artifact's inputs: transposed, cast and named as `contract` says.

    Args:
        path: .npz with one array per source input, (N, *shape), or (N, *shape[1:]) where shape[0] is 1.
        input_specs: the source's inputs, every axis fixed.
        contract: how the source's tensors appear in the artifact; None when the artifact is the source.

    Raises:
        BadData: a file that is no .npz or holds pickles, a missing array, or one of the wrong shape or dtype.
    """
    arrays = _load(path, input_specs)
    bindings = (contract or Contract.identity(input_specs, ())).inputs
    for index in range(len(arrays[input_specs[0].name])):
        yield to_artifact({name: array[index] for name, array in arrays.items()}, bindings)


def to_artifact(sample: Mapping[str, np.ndarray[Any, Any]], bindings: tuple[Binding, ...]) -> Arrays:
    """Turn one sample by source name into the artifact's tensors."""
    import numpy as np

    feed = {}
    for binding in bindings:
        array = sample[binding.source.name]
        if binding.transpose is not None:
            array = array.transpose(binding.transpose)
        array = array.astype(binding.artifact.dtype, copy=False)
        feed[binding.artifact.name] = np.ascontiguousarray(array)
    return feed


def _draw(rng: np.random.Generator, spec: TensorSpec, positive: bool) -> np.ndarray[Any, Any]:
    import numpy as np

    dtype, shape = np.dtype(spec.dtype), spec.static_shape
    if dtype.kind in "fc":
        return np.asarray(rng.random(shape) if positive else rng.standard_normal(shape)).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)


def _load(path: Path, input_specs: tuple[TensorSpec, ...]) -> Arrays:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {spec.name: _stacked(stored, spec) for spec in input_specs}
    except (OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as exc:
        raise BadData("The calibration file is not a readable .npz; write it with numpy.savez.") from exc
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1 or not all(counts.values()):
        raise BadData(
            f"Every array of the calibration file needs the same number of samples, at least 1; got {counts}."
        )
    return arrays


def _stacked(stored: Mapping[str, np.ndarray[Any, Any]], spec: TensorSpec) -> np.ndarray[Any, Any]:
    """Return (N, *shape) in the source's dtype."""
    if spec.name not in stored:
        raise BadData(
            f"The calibration file has no array {spec.name!r}; it holds {', '.join(sorted(stored)) or 'none'}."
        )
    try:
        array = stored[spec.name]
    except ValueError as exc:
        raise BadData(f"Array {spec.name!r} holds Python objects or is damaged; store plain numbers.") from exc
    shape = spec.static_shape
    if array.shape[1:] == shape[1:] and shape[:1] == (1,) and array.ndim == len(shape):
        array = array[:, None]
    if array.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise BadData(f"Array {spec.name!r} has shape {array.shape}; the model's input needs (N, {wanted}).")
    if array.dtype.kind != _kind(spec.dtype):
        raise BadData(f"Array {spec.name!r} has dtype {array.dtype}; the model's input is {spec.dtype}.")
    return array.astype(spec.dtype, copy=False)


def _kind(dtype: str) -> str:
    import numpy as np

    return np.dtype(dtype).kind
