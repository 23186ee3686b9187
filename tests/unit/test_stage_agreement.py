"""What a runtime sees is held against what the route declared."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import ContractMismatch
from farm.domain.facts import TensorSpec
from workers.stages.compare.agreement import changes_seen, check_contract

IMAGE = TensorSpec("image", "float32", (1, 3, 8, 8))
SCORES = TensorSpec("scores", "float32", (1, 5))
CONTRACT = Contract.identity((IMAGE,), (SCORES,))


def test_equal_tensors_agree() -> None:
    check_contract(CONTRACT, (IMAGE,), (SCORES,))


@pytest.mark.parametrize(
    "found",
    [
        TensorSpec("image", "float32", ("batch", 3, 8, 8)),
        TensorSpec("image", "float32", None),
    ],
)
def test_open_axes_agree_with_any_size(found: TensorSpec) -> None:
    check_contract(CONTRACT, (found,), (SCORES,))


def test_an_unknown_source_output_agrees_with_any() -> None:
    unknown = TensorSpec("output_0", "unknown", None)
    check_contract(Contract((), (Binding(unknown, unknown),)), (), (TensorSpec("output_0", "int64", (3,)),))


def test_all_differences_are_told_at_once() -> None:
    found = (TensorSpec("image", "int8", (1, 3, 8, 8)), TensorSpec("extra", "float32", (1,)))
    with pytest.raises(ContractMismatch) as caught:
        check_contract(CONTRACT, found, (TensorSpec("scores", "float32", (1, 6)),))
    told = caught.value.evidence["differences"]
    assert len(told) == 3
    assert "input 'extra' was not declared" in told
    assert "input image:float32[1,3,8,8] was declared, and it is image:int8[1,3,8,8]" in told
    assert "output scores:float32[1,5] was declared, and it is scores:float32[1,6]" in told


def test_a_missing_tensor_and_a_wrong_rank_are_named() -> None:
    with pytest.raises(ContractMismatch, match=r"input 'image' is missing.*scores:float32\[1,5,1\]"):
        check_contract(CONTRACT, (), (TensorSpec("scores", "float32", (1, 5, 1)),))


INT8_IMAGE = TensorSpec("image_int8", "int8", (1, 8, 8, 3), 0.0039, -128)
LAST = Contract((Binding(IMAGE, INT8_IMAGE, (0, 2, 3, 1)),), (Binding(SCORES, SCORES),))


def test_what_is_declared_and_seen_agrees() -> None:
    check_contract(LAST, (INT8_IMAGE,), (SCORES,))
    check_contract(LAST, (replace(INT8_IMAGE, scale=None, zero_point=None),), (SCORES,))


@pytest.mark.parametrize(
    ("breach", "says"),
    [
        ({"name": "picture"}, "input 'image_int8' is missing; input 'picture' was not declared"),
        ({"dtype": "uint8"}, "image_int8:int8[1,8,8,3] was declared, and it is image_int8:uint8[1,8,8,3]"),
        ({"shape": (1, 8, 8, 4)}, "it is image_int8:int8[1,8,8,4]"),
        ({"shape": (1, 8, 8)}, "it is image_int8:int8[1,8,8]"),
        (
            {"scale": 0.0078},
            "'image_int8' was declared with scale 0.0039 and zero point -128, and it has scale 0.0078 and zero point",
        ),
        ({"zero_point": 0}, "and it has scale 0.0039 and zero point 0"),
    ],
)
def test_each_breach_of_a_declared_tensor_is_named_with_both_sides(breach: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractMismatch) as caught:
        check_contract(LAST, (replace(INT8_IMAGE, **breach),), (SCORES,))

    assert says in caught.value.message
    assert "return the contract of the file it writes" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("binding", "says"),
    [
        (Binding(IMAGE, INT8_IMAGE), "can't stand for the source's image:float32[1,3,8,8]"),
        (Binding(IMAGE, INT8_IMAGE, (0, 1, 2, 3)), "by the order of axes [0, 1, 2, 3]"),
        (Binding(IMAGE, INT8_IMAGE, (0, 2, 3, 3)), "by the order of axes [0, 2, 3, 3]"),
        (Binding(IMAGE, INT8_IMAGE, (0, 2, 1)), "by the order of axes [0, 2, 1]"),
        (Binding(IMAGE, replace(INT8_IMAGE, scale=None, zero_point=None), (0, 2, 3, 1)), "declared with no scale"),
    ],
)
def test_a_binding_that_can_not_be_is_named(binding: Binding, says: str) -> None:
    with pytest.raises(ContractMismatch) as caught:
        check_contract(Contract((binding,), ()), (INT8_IMAGE,), ())

    assert says in caught.value.message


def test_a_scale_that_rounding_moved_is_the_same() -> None:
    check_contract(LAST, (replace(INT8_IMAGE, scale=float(np.float32(0.0039))),), (SCORES,))


def test_integers_of_an_integer_source_need_no_scale() -> None:
    """Given a source that was quantized itself, whose scale the request did not repeat."""
    integer = TensorSpec("x", "int8", (1, 4))

    check_contract(Contract.identity((integer,), ()), (replace(integer, scale=0.5, zero_point=3),), ())


def test_every_difference_from_the_source_is_listed_once() -> None:
    boxes = TensorSpec("boxes", "float32", (1, 4))
    declared = ("input image: axis 0 (N) fixed at 1", "input image: NCHW → NHWC")
    contract = replace(LAST, outputs=(Binding(SCORES, SCORES), Binding(boxes, boxes)), changes=declared)

    assert changes_seen(contract, (INT8_IMAGE,), (boxes, SCORES)) == (
        "input image: axis 0 (N) fixed at 1",
        "input image: NCHW → NHWC",
        "input image: renamed to image_int8",
        "input image: float32 → int8 (scale 0.0039, zero point -128)",
        "outputs: in the order boxes, scores",
    )
    assert changes_seen(Contract.identity((IMAGE,), (SCORES,)), (IMAGE,), (SCORES,)) == ()
