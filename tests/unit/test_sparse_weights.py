"""Weights set to zero by magnitude: which ones go, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from farm.domain.facts import Format, ModelFacts
from workers.stages.optimize.optimize_onnx_sparse import check, prune_half, prune_two_of_four

WEIGHTS = hnp.arrays(
    "float32",
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9),
    elements=st.floats(-4, 4, width=32),
    unique=True,
)


@given(WEIGHTS)
def test_the_smaller_half_of_a_layer_goes(weight: np.ndarray) -> None:
    pruned = prune_half(weight, 0)

    kept = pruned != 0
    assert np.array_equal(pruned[kept], weight[kept])
    assert np.count_nonzero(weight[~kept]) <= weight.size // 2
    assert np.abs(weight[~kept]).max(initial=0) <= np.abs(weight[kept]).min(initial=9)


@given(WEIGHTS, st.integers(0, 3))
def test_of_each_four_input_channels_the_two_smallest_go(weight: np.ndarray, axis: int) -> None:
    axis %= weight.ndim
    pruned = np.moveaxis(prune_two_of_four(weight, axis), axis, -1)
    whole = weight.shape[axis] // 4 * 4
    before = np.moveaxis(weight, axis, -1)
    groups, old = (array[..., :whole].reshape(-1, 4) for array in (pruned, before))

    assert np.array_equal(pruned[..., whole:], before[..., whole:])
    assert all(np.count_nonzero(group) <= 2 for group in groups)
    for group, was in zip(groups, old, strict=True):
        assert np.array_equal(group, np.where(np.abs(was) >= np.sort(np.abs(was))[2], was, 0))


@pytest.mark.parametrize(("operators", "can"), [({"Relu": 3}, False), ({"Conv": 1, "Relu": 3}, True), ({}, True)])
def test_a_model_without_such_weights_is_refused(operators: dict[str, int], can: bool) -> None:
    assert check(ModelFacts(Format.ONNX, (), (), operators), {}, None).can is can
