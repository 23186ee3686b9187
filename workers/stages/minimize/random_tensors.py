"""Random values in the place of a model's weights and samples: seeded, of the same type and shape."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import TensorSpec
from workers.stages.samples import seeded_probe

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

SAMPLES = 24
QUANTIZATION_SCALE = (0.005, 0.02)
MILD = (0.5, 1.5)


def random_tensor(
    like: onnx.TensorProto, rng: np.random.Generator, within: tuple[float, float] | None = None
) -> onnx.TensorProto:
    """Make a tensor of the name, type and shape of another one; floats lie in `within` where it is given."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    dims = tuple(like.dims)
    if like.data_type == TensorProto.STRING:
        text: onnx.TensorProto = helper.make_tensor(like.name, like.data_type, dims, [b"s"] * int(np.prod(dims)))
        return text
    dtype = helper.tensor_dtype_to_np_dtype(like.data_type)
    tensor: onnx.TensorProto = numpy_helper.from_array(_draw(rng, dtype, dims, within).astype(dtype), like.name)
    return tensor


def _draw(
    rng: np.random.Generator, dtype: np.dtype[Any], dims: tuple[int, ...], within: tuple[float, float] | None
) -> NDArray[Any]:
    """Draw values that keep most operators within their range.

    Vectors stay near 1, since they may be variances, divisors or logarithms' arguments; matrices and kernels have the
    spread that keeps a layer's output as large as its input. Bytes span their range; wider integers are 0 or 1.
    """
    import numpy as np

    if dtype.kind == "b":
        return rng.integers(0, 2, dims)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, int(limits.max) + 1, dims) if dtype.itemsize == 1 else rng.integers(0, 2, dims)
    if within is not None or len(dims) < 2:
        return rng.uniform(*(within or MILD), dims)
    fan_in = max(1, int(np.prod(dims[1:])))
    return np.asarray(rng.standard_normal(dims) / np.sqrt(fan_in))


def write_samples(specs: tuple[TensorSpec, ...], seed: int, path: Path) -> Path:
    """Write seeded calibration samples: per input an array (SAMPLES, *shape), without the first axis where it is 1."""
    import numpy as np

    probes = [seeded_probe(specs, seed=seed + at, positive=True) for at in range(SAMPLES)]
    rows = {spec.name: np.stack([probe[spec.name] for probe in probes]) for spec in specs}
    batched = {spec.name for spec in specs if spec.static_shape[:1] == (1,)}
    arrays: dict[str, Any] = {name: array[:, 0] if name in batched else array for name, array in rows.items()}
    np.savez(path, **arrays)
    return path
