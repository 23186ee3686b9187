"""Arrays travel between a source's tensors and an artifact's without losing more than half a step."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from farm.domain.artifact import Binding
from farm.domain.errors import BadData, ContractMismatch
from farm.domain.facts import TensorSpec
from workers.runtimes.binding import dequantize, quantize, to_artifact, to_source

SCALES = st.floats(min_value=1e-3, max_value=10.0)
ZERO_POINTS = st.integers(-128, 127)


@given(SCALES, ZERO_POINTS, hnp.arrays("float32", 20, elements=st.floats(-1, 1, width=32)))
def test_quantizing_loses_at_most_half_a_step(scale: float, zero_point: int, unit: np.ndarray[Any, Any]) -> None:
    spec = TensorSpec("x", "int8", (20,), scale, zero_point)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    values = (low + (unit.astype("float64") + 1) / 2 * (high - low)).clip(low, high)
    restored = dequantize(quantize(values, spec), spec)
    assert np.max(np.abs(restored - values)) <= scale / 2 * (1 + 1e-4) + 1e-6


@given(st.permutations(range(4)), st.data())
def test_a_transpose_comes_back(order: list[int], data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 4)) for _ in range(4))
    array = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    there = TensorSpec("b", "float32", tuple(shape[axis] for axis in order))
    binding = Binding(TensorSpec("a", "float32", shape), there, tuple(order))
    feeds = to_artifact({"a": array}, (binding,))
    assert feeds["b"].shape == there.shape
    assert feeds["b"].flags.c_contiguous
    np.testing.assert_array_equal(to_source(feeds, (binding,))["a"], array)


def test_values_outside_the_range_saturate() -> None:
    spec = TensorSpec("x", "int8", (2,), 0.5, 0)
    assert quantize(np.array([1e6, -1e6]), spec).tolist() == [127, -128]


def test_integers_narrow_when_they_fit() -> None:
    binding = Binding(TensorSpec("ids", "int64", (2,)), TensorSpec("ids", "int32", (2,)))
    assert to_artifact({"ids": np.array([1, 2])}, (binding,))["ids"].dtype == np.int32
    with pytest.raises(BadData, match="4294967296, which int32 cannot hold"):
        to_artifact({"ids": np.array([1, 1 << 32])}, (binding,))


def test_a_float_source_gets_real_values_back() -> None:
    binding = Binding(TensorSpec("y", "float32", (3,)), TensorSpec("y", "int8", (3,), 0.5, -1))
    found = to_source({"y": np.array([-1, 0, 1], "int8")}, (binding,))["y"]
    assert found.tolist() == [0.0, 0.5, 1.0]
    assert found.dtype == np.float32


def test_an_integer_source_keeps_its_integers() -> None:
    spec = TensorSpec("y", "int8", (1,), 0.5, -1)
    assert to_source({"y": np.array([3], "int8")}, (Binding(spec, spec),))["y"].tolist() == [3]


def test_an_output_of_another_rank_is_a_mismatch() -> None:
    tensor = TensorSpec("y", "float32", (1, 2))
    with pytest.raises(ContractMismatch, match="has 1 axes; 2 were declared"):
        to_source({"y": np.zeros(2)}, (Binding(tensor, tensor, (1, 0)),))
