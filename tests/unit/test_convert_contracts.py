"""How a converted file is bound to its model: by numbers, not by shapes or names alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import ArtifactBroken, ContractMismatch, NumericsBroken, RequestError
from farm.domain.facts import TensorSpec
from workers.stages.contracts import compose, probes, prove_float
from workers.stages.samples import artifact_ranges, seeded_probe

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """A session whose function is plain NumPy."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    function: Callable[[Arrays], dict[str, NDArray[Any]]]

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        return self.function(feeds)


def tensor(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, shape)


CUBE, SEEN = tensor("cube", 1, 4, 4, 4), tensor("seen", 1, 4, 4, 4)
RAMP = np.arange(64, dtype="float32").reshape(1, 4, 4, 4)
SOURCE = Model((CUBE,), (SEEN,), lambda feeds: {"seen": feeds["cube"] * RAMP})
GIVEN = Contract.identity((CUBE,), (SEEN,))


def channels_last(feeds: Arrays) -> dict[str, NDArray[Any]]:
    return {"seen": (feeds["cube"].transpose(0, 3, 1, 2) * RAMP).transpose(0, 2, 3, 1)}


def test_a_layout_that_every_shape_fits_is_told_by_the_numbers() -> None:
    proof = prove_float(GIVEN, SOURCE, Model((CUBE,), (SEEN,), channels_last))

    assert proof.contract.inputs[0].transpose == (0, 2, 3, 1)
    assert proof.contract.outputs[0].transpose == (0, 2, 3, 1)
    assert proof.contract.changes == ("input cube: NCHW → NHWC", "output seen: NCHW → NHWC")
    assert proof.sqnr_db > 100


def test_a_wrong_function_is_refused() -> None:
    broken = Model((CUBE,), (SEEN,), lambda feeds: {"seen": feeds["cube"] * RAMP[::-1, ::-1, ::-1]})

    with pytest.raises(NumericsBroken, match="computes something else") as caught:
        prove_float(GIVEN, SOURCE, broken)

    assert "farm routes" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, 4, 4, 4), ""),
        ((4, 4, 4, 4, 4), "Only 64 of the 120 orders of axes that the shapes of its inputs allow were tried."),
        ((2, 2, 2, 2, 2, 2), "Only 1 of the 720 orders of axes that the shapes of its output seen allow were tried."),
    ],
)
def test_orders_of_axes_that_were_not_tried_are_told(shape: tuple[int, ...], told: str) -> None:
    tensors = (tensor("cube", *shape),), (tensor("seen", *shape),)
    ramp = np.arange(math.prod(shape), dtype="float32").reshape(shape)
    source = Model(*tensors, lambda feeds: {"seen": feeds["cube"] * ramp})
    broken = Model(*tensors, lambda feeds: {"seen": feeds["cube"] * np.cos(ramp)})

    with pytest.raises(NumericsBroken) as caught:
        prove_float(Contract.identity(*tensors), source, broken)

    assert told in caught.value.message
    assert ("were tried" in caught.value.message) == bool(told)


def test_values_that_are_not_finite_are_refused() -> None:
    broken = Model((CUBE,), (SEEN,), lambda feeds: {"seen": feeds["cube"] * np.float32("nan")})

    with pytest.raises(ArtifactBroken, match="not finite"):
        prove_float(GIVEN, SOURCE, broken)


def test_nothing_is_proved_against_a_source_that_is_not_finite_itself() -> None:
    """Given one -inf in every answer, a file that answers 7 to all is no copy of it, and the model is to blame."""
    hole = np.where(RAMP == 5, -np.inf, 0).astype("float32")
    source = Model((CUBE,), (SEEN,), lambda feeds: {"seen": feeds["cube"] * RAMP + hole})
    constant = Model((CUBE,), (SEEN,), lambda feeds: {"seen": np.full_like(feeds["cube"], 7)})

    with pytest.raises(RequestError, match="source itself returns values that are not finite in output 'seen'"):
        prove_float(GIVEN, source, constant)


def test_a_source_that_needs_positive_inputs_is_proved_on_those() -> None:
    def root(feeds: Arrays) -> dict[str, NDArray[Any]]:
        with np.errstate(invalid="ignore"):
            return {"seen": np.sqrt(feeds["cube"])}

    assert prove_float(GIVEN, Model((CUBE,), (SEEN,), root), Model((CUBE,), (SEEN,), root)).sqnr_db == 200.0


def test_a_missing_output_is_refused() -> None:
    with pytest.raises(ContractMismatch, match="outputs"):
        prove_float(GIVEN, SOURCE, Model((CUBE,), (), lambda feeds: {}))


def test_outputs_without_their_names_are_told_apart_by_the_numbers() -> None:
    x, up, down = tensor("x", 1, 8), tensor("up", 1, 8), tensor("down", 1, 8)
    source = Model((x,), (up, down), lambda feeds: {"up": feeds["x"] + 1, "down": feeds["x"] - 1})
    swapped = Model(
        (x,), (tensor("o0", 1, 8), tensor("o1", 1, 8)), lambda feeds: {"o0": feeds["x"] - 1, "o1": feeds["x"] + 1}
    )

    proof = prove_float(Contract.identity((x,), (up, down)), source, swapped)

    assert [binding.artifact.name for binding in proof.contract.outputs] == ["o1", "o0"]
    assert "output up: renamed to o1" in proof.contract.changes


def test_narrower_integers_are_a_declared_change() -> None:
    ids, out = tensor("ids", 1, 6, dtype="int64"), tensor("out", 1, 6)
    source = Model((ids,), (out,), lambda feeds: {"out": feeds["ids"].astype("float32")})
    narrow = Model((tensor("ids", 1, 6, dtype="int32"),), (out,), source.function)

    assert prove_float(Contract.identity((ids,), (out,)), source, narrow).contract.changes == (
        "input ids: int64 → int32",
    )


def test_a_tool_that_reorders_inputs_is_followed_by_the_names_it_gave() -> None:
    a, b, out = tensor("a", 1, 4), tensor("b", 1, 4), tensor("out", 1, 4)
    source = Model((a, b), (out,), lambda feeds: {"out": feeds["a"] - feeds["b"]})
    first, second = tensor("serving_default_input_1:0", 1, 4), tensor("serving_default_input_0:0", 1, 4)
    reordered = Model((first, second), (out,), lambda feeds: {"out": feeds[second.name] - feeds[first.name]})

    proof = prove_float(Contract.identity((a, b), (out,)), source, reordered, {"a": "input_0", "b": "input_1"})

    assert [binding.artifact.name for binding in proof.contract.inputs] == [second.name, first.name]


@given(st.permutations(range(4)), st.permutations(range(4)))
@settings(max_examples=50)
def test_chained_layouts_are_one_layout(first: list[int], second: list[int]) -> None:
    source = tensor("x", 2, 3, 5, 7)
    array = np.arange(210).reshape(2, 3, 5, 7)
    middle = array.transpose(first)
    last = middle.transpose(second)
    one = Binding(source, tensor("y", *middle.shape), tuple(first))
    two = Binding(one.artifact, tensor("z", *last.shape), tuple(second))

    (chained,) = compose(Contract((one,), ()), Contract((two,), ())).inputs

    direct = array if chained.transpose is None else array.transpose(chained.transpose)
    assert np.array_equal(direct, last)


def test_a_rename_on_the_way_is_told_once() -> None:
    x = tensor("x", 1, 4)
    first = Contract((Binding(x, tensor("y", 1, 4)),), (), ("input x: axis 0 (N) fixed at 1", "input x: renamed to y"))
    second = Contract((Binding(tensor("y", 1, 4), tensor("z", 1, 4)),), (), ("input y: renamed to z",))

    assert compose(first, second).changes == ("input x: axis 0 (N) fixed at 1", "input x: renamed to z")


def test_the_probe_is_the_same_every_time_and_no_two_elements_are_equal() -> None:
    first, again = seeded_probe((CUBE,))["cube"], seeded_probe((CUBE,))["cube"]

    assert np.array_equal(first, again)
    assert len(np.unique(first)) == first.size


def test_a_detector_that_sees_nothing_in_noise_is_proven_on_another_probe() -> None:
    def faint(error: float) -> Model:
        """Answer about nothing, off by `error`, unless every value is positive."""
        return Model(
            (CUBE,),
            (SEEN,),
            lambda f: {"seen": f["cube"] * RAMP if (f["cube"] >= 0).all() else f["cube"] * 1e-9 + error},
        )

    assert prove_float(GIVEN, faint(0.0), faint(1e-9)).sqnr_db > 100


def test_probes_stay_within_the_ranges_of_the_source_whatever_its_inputs_are_called_now() -> None:
    source, became = TensorSpec("x", "float32", (1, 50)), TensorSpec("args_0", "float32", (1, 50))
    bound = Contract((Binding(source, became),), (Binding(SEEN, SEEN),))
    found = list(probes(bound, Model((became,), (SEEN,), lambda feeds: {"seen": feeds["args_0"]}), {"x": (3.0, 4.0)}))

    assert len(found) == 2
    for feeds, _ in found:
        assert 3.0 <= feeds["args_0"].min() < feeds["args_0"].max() <= 4.0


def test_a_quantized_input_spans_its_integers_not_the_range_of_reals() -> None:
    source = TensorSpec("x", "float32", (1, 50))
    bound = Contract((Binding(source, TensorSpec("x", "int8", (1, 50), 0.1, 0)),), ())

    assert artifact_ranges(bound, {"x": (3.0, 4.0)}) == {}
