"""What a runtime sees is held against what the route declared."""

import pytest

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import ContractMismatch
from farm.domain.facts import TensorSpec
from workers.stages.compare.agreement import check_contract

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
