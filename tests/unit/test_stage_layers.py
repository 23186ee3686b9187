"""Which tensors stand for each other layer by layer, what counts as cut off, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from farm.domain.artifact import Binding
from farm.domain.facts import TensorSpec
from workers.stages.samples import Feeds
from workers.stages.trace import layers
from workers.stages.trace.layers import clipped_share, compared_layers, float_inputs, left_out, spread
from workers.stages.trace.pairs import Tap
from workers.stages.trace.tflite_pair import by_name, by_order

IMAGE = TensorSpec("image", "float32", (1, 3, 8, 8))
GIVEN = TensorSpec("image_int8", "int8", (1, 8, 8, 3), 0.01, 3)


@dataclass
class ScriptedPair:
    """Stands in for two models: a tap's values are what it was made with."""

    held: dict[str, tuple[NDArray[Any], NDArray[Any]]]
    total: int = 0
    inputs: tuple[TensorSpec, ...] = ()
    asked: list[int] = field(default_factory=list)

    @property
    def taps(self) -> tuple[Tap, ...]:
        return tuple(Tap(name, "Conv", name, name) for name in self.held)

    def values(self, taps: Sequence[Tap], before: Feeds, after: Feeds) -> Iterator[Any]:
        self.asked.append(len(taps))
        for tap in taps:
            yield tap, *self.held[tap.before]


def values(*numbers: float) -> NDArray[Any]:
    return np.array(numbers, np.float32)


def test_a_float_input_takes_the_quantized_ones_axes_and_its_own_type() -> None:
    binding = Binding(IMAGE, GIVEN, (0, 2, 3, 1))

    (bound,) = float_inputs((binding,), (TensorSpec("picture", "float32", ("?", 8, 8, 3)),))

    assert bound == Binding(IMAGE, TensorSpec("picture", "float32", (1, 8, 8, 3)), (0, 2, 3, 1))


def test_float_inputs_go_by_name_before_their_order() -> None:
    a, b = (TensorSpec(name, "float32", (1,)) for name in "ab")

    bound = float_inputs((Binding(a, a), Binding(b, b)), (b, a))

    assert [binding.artifact.name for binding in bound] == ["a", "b"]


def test_values_beyond_the_range_are_cut_off_and_rounding_is_not() -> None:
    expected = np.linspace(0, 10, 101, dtype=np.float32)

    assert clipped_share(expected, np.clip(expected, 0, 5)) == pytest.approx(0.465, abs=0.02)
    assert clipped_share(expected, np.round(expected * 12) / 12) == 0.0


def test_every_layer_is_told_in_order_with_its_own_figure() -> None:
    pair = ScriptedPair({"one": (values(1, 2), values(1, 2)), "two": (values(3, 4), values(3, 5))})

    told = list(compared_layers(pair, pair.taps, {}, {}))

    assert [(one["tensor"], one["sqnr_db"]) for one in told] == [("one", 200.0), ("two", 13.98)]
    assert set(told[0]) == {
        *("tensor", "operator", "sqnr_db", "cosine", "max_abs_error", "max_abs_value", "clipped_share")
    }


def test_what_is_no_real_number_or_of_another_shape_is_no_layer() -> None:
    pair = ScriptedPair(
        {
            "integers": (np.array([1, 2]), np.array([1, 2])),
            "shape": (values(1, 2), values(1)),
            "infinite": (values(1), values(np.inf)),
            "empty": (values(), values()),
        },
        total=4,
    )

    assert list(compared_layers(pair, pair.taps, {}, {})) == []
    assert left_out(pair, pair.taps, 0) == (
        "none of the float model's 4 inner tensors has a counterpart in the quantized file, by name or by the order of "
        "operators."
    )


def test_no_run_holds_more_than_a_group_of_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "GROUP", 3)
    pair = ScriptedPair({str(at): (values(at), values(at)) for at in range(7)})

    assert len(list(compared_layers(pair, pair.taps, {}, {}))) == 7
    assert pair.asked == [3, 3, 1]


def test_no_group_is_begun_after_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "LONGEST_S", -1.0)
    pair = ScriptedPair({"one": (values(1), values(1))})

    assert list(compared_layers(pair, pair.taps, {}, {})) == []


def test_many_layers_are_spread_evenly_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MOST", 5)
    pair = ScriptedPair({str(at): (values(at), values(at)) for at in range(21)}, total=30)

    chosen = spread(pair.taps)

    assert [tap.tensor for tap in chosen] == ["0", "5", "10", "15", "20"]
    assert left_out(pair, chosen, 5) == (
        "5 of 30 tensors are compared: at most 5 are compared, spread evenly; the others are fused into their "
        "neighbours or have no counterpart."
    )


def test_nothing_is_said_when_every_tensor_is_compared() -> None:
    pair = ScriptedPair({"one": (values(1), values(1))}, total=1)

    assert left_out(pair, pair.taps, 1) is None


def test_tensors_of_tflite_go_by_name_and_else_by_the_order_of_equal_operators() -> None:
    before, renamed = [("a", "CONV_2D"), ("b", "MEAN")], [("x", "CONV_2D"), ("y", "MEAN")]

    assert by_name(before, [("b", "MEAN")]) == (Tap("b", "MEAN", "b", "b"),)
    assert by_name(before, renamed) == ()
    assert by_order(before, renamed) == (Tap("a", "CONV_2D", "a", "x"), Tap("b", "MEAN", "b", "y"))
    assert by_order(before, [("x", "CONV_2D"), ("y", "RESHAPE")]) == ()
