"""Carry arrays between a source's tensors and the artifact's that stand for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Binding
from farm.domain.errors import BadData, ContractMismatch
from farm.domain.facts import TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def to_artifact(sample: Mapping[str, NDArray[Any]], bindings: tuple[Binding, ...]) -> dict[str, NDArray[Any]]:
    """Turn one sample by source name into feeds by artifact name: transposed, quantized or cast.

    Raises:
        BadData: an integer does not fit the artifact's narrower type.
    """
    import numpy as np

    feeds = {}
    for binding in bindings:
        array = sample[binding.source.name]
        if binding.transpose is not None:
            array = array.transpose(binding.transpose)
        feeds[binding.artifact.name] = np.ascontiguousarray(_into(array, binding.artifact))
    return feeds


def to_source(results: Mapping[str, NDArray[Any]], bindings: tuple[Binding, ...]) -> dict[str, NDArray[Any]]:
    """Turn results by artifact name into arrays by source name: dequantized or cast, axes in the source's order."""
    import numpy as np

    arrays = {}
    for binding in bindings:
        array = _real(results[binding.artifact.name], binding)
        if binding.transpose is not None:
            if array.ndim != len(binding.transpose):
                raise ContractMismatch(
                    f"Output {binding.artifact.name!r} has {array.ndim} axes; {len(binding.transpose)} were declared."
                )
            array = array.transpose(np.argsort(binding.transpose))
        arrays[binding.source.name] = array
    return arrays


def quantize(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Round real values to the integers of an affine quantized tensor: q = round(x / scale) + zero_point, saturated.

    Source: LiteRT 8-bit quantization specification.
    """
    import numpy as np

    limits = np.iinfo(spec.dtype)
    steps = np.rint(array / (spec.scale or 1.0)) + (spec.zero_point or 0)
    quantized: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(spec.dtype)
    return quantized


def dequantize(array: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Return the real values: x = (q - zero_point) * scale."""
    import numpy as np

    return ((array.astype(np.float64) - (spec.zero_point or 0)) * (spec.scale or 1.0)).astype(np.float32)


def _into(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    import numpy as np

    if array.dtype == spec.dtype:
        return array
    if spec.scale is not None and array.dtype.kind == "f":
        return quantize(array, spec)
    cast = array.astype(spec.dtype)
    if array.dtype.kind in "iu" and not np.array_equal(cast, array):
        worst = array.flat[int(np.argmax(np.abs(array.astype(np.float64))))]
        raise BadData(f"Input {spec.name!r} holds {worst}, which {spec.dtype} cannot hold.")
    return cast


def _real(array: NDArray[Any], binding: Binding) -> NDArray[Any]:
    """Undo quantization where the source is real; otherwise give back the source's type when it is known."""
    source, artifact = binding.source, binding.artifact
    if artifact.scale is not None and source.scale is None and source.dtype.startswith(("float", UNKNOWN_DTYPE)):
        array = dequantize(array, artifact)
    return array if source.dtype == UNKNOWN_DTYPE else array.astype(source.dtype, copy=False)
