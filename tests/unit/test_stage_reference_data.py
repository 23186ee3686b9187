"""Which samples a source is run on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.data import sample_digests, split
from farm.domain.errors import BadData
from farm.domain.facts import TensorSpec
from farm.domain.stage import Options, StageInput
from workers.stages.inspect.npz import run as inspect_npz
from workers.stages.npz import NpzReader
from workers.stages.reference.data import check_data, chosen_rows, generated_samples, user_samples
from workers.stages.samples import split_rows

IMAGE = TensorSpec("image", "float32", (1, 2, 3))


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_rows_are_distinct_and_spread(available: int, wanted: int) -> None:
    rows = chosen_rows(range(available), wanted)
    assert len(rows) == min(available, wanted)
    assert list(rows) == sorted(set(rows))
    assert rows[-1] < available
    assert available - rows[-1] <= available // len(rows) + 1


def test_rows_are_chosen_among_those_meant() -> None:
    assert chosen_rows((3, 5, 8, 13), 2) == (3, 8)


def test_parts_of_a_file_go_by_the_values_that_inspection_saw(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "x.npz", image=rng.random((16, 1, 2, 3), np.float32), **{"mask": np.zeros((16, 4), np.int8)})
    specs = (IMAGE, TensorSpec("mask", "int8", (1, 4)))
    facts = inspect_npz(StageInput({"model": tmp_path / "x.npz"}, Options(), {}, None, tmp_path)).facts["arrays"]

    with NpzReader(tmp_path / "x.npz") as data:
        found = split_rows(data, specs, reports=True)

    assert found == split(sample_digests(facts, specs), reports=True)
    assert (len(found.calibration), len(found.selection), len(found.report)) == (8, 4, 4)


@pytest.mark.parametrize("shape", [(5, 1, 2, 3), (5, 2, 3)])
def test_samples_come_with_or_without_their_batch_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.arange(30, dtype=np.float32).reshape(shape)
    np.savez(tmp_path / "x.npz", image=array, labels=np.arange(5))
    with NpzReader(tmp_path / "x.npz") as data:
        check_data(data, (IMAGE,))
        found = list(user_samples(data, (IMAGE,), (1, 4)))
    assert [sample["image"].shape for sample in found] == [(1, 2, 3)] * 2
    np.testing.assert_array_equal(found[1]["image"].ravel(), array[4].ravel())


def test_all_that_is_wrong_with_the_data_is_told(tmp_path: Path) -> None:
    other, third = TensorSpec("ids", "int64", (1, 4)), TensorSpec("mask", "bool", (1, 4))
    np.savez(tmp_path / "x.npz", image=np.zeros((5, 2, 4), np.float32), ids=np.zeros((5, 4), np.int32))
    with NpzReader(tmp_path / "x.npz") as data, pytest.raises(BadData) as caught:
        check_data(data, (IMAGE, other, third))
    assert "'image' has shape [5, 2, 4]; (N,2,3) is needed" in caught.value.message
    assert "'ids' has dtype int32; int64 is needed" in caught.value.message
    assert "no array 'mask'" in caught.value.message


def test_a_declared_range_is_respected_and_used_whole() -> None:
    specs = (TensorSpec("ids", "int64", (1, 400)), TensorSpec("mask", "int64", (1, 400)), IMAGE)
    ranges = {"ids": (3.0, 9.0), "image": (-4.0, -2.0)}

    samples = list(generated_samples(specs, 2, seed=7, span=(0.0, 1.0), ranges=ranges))

    for sample in samples:
        assert set(np.unique(sample["ids"])) == set(range(3, 10))
        assert sample["ids"].dtype == np.int64
        assert set(np.unique(sample["mask"])) == {0, 1}
        assert -4.0 <= sample["image"].min() <= sample["image"].max() < -2.0
    assert not np.array_equal(samples[0]["ids"], samples[1]["ids"])


def test_a_range_without_values_is_the_submitters_to_mend() -> None:
    with pytest.raises(BadData, match="holds no value of uint8"):
        list(generated_samples((TensorSpec("x", "uint8", (1,)),), 1, seed=0, span=(0, 1), ranges={"x": (300, 400)}))


def test_generated_samples_are_seeded_and_in_range() -> None:
    specs = (IMAGE, TensorSpec("ids", "int64", (1, 4)), TensorSpec("pixels", "uint8", (1, 50)))
    first, again = (list(generated_samples(specs, 3, seed=7, span=(-1.0, 1.0))) for _ in range(2))
    other = next(generated_samples(specs, 1, seed=8, span=(-1.0, 1.0)))
    for sample, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(sample["image"], same["image"])
        assert sample["image"].min() >= -1.0
        assert sample["image"].max() <= 1.0
        assert set(np.unique(sample["ids"])) <= {0, 1}
        assert {name: array.dtype.name for name, array in sample.items()} == {s.name: s.dtype for s in specs}
    assert min(sample["image"].min() for sample in first) < 0
    assert not np.array_equal(first[0]["image"], first[1]["image"])
    assert not np.array_equal(first[0]["image"], other["image"])
