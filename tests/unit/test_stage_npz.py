"""Data files are read row by row, checked by their headers, and never unpickled."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from farm.domain.errors import BadData, TooLarge
from workers.stages import npz
from workers.stages.npz import NpzReader, NpzWriter

ARRAYS = hnp.arrays(
    dtype=st.sampled_from(["float32", "float64", ">f4", "int64", "uint8", "bool"]),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
    elements=st.just(0) | st.just(1),
)


@given(ARRAYS, st.booleans(), st.sampled_from([np.savez, np.savez_compressed]))
def test_rows_are_the_arrays_rows(array: np.ndarray[Any, Any], fortran: bool, save: Any) -> None:
    file = io.BytesIO()
    save(file, **{"a/b": np.asfortranarray(array) if fortran else array})
    with NpzReader(file) as reader:
        rows = list(reader.rows("a/b"))
    np.testing.assert_array_equal(np.stack(rows), array)
    assert rows[0].dtype == array.dtype.newbyteorder("=")


def test_writer_and_numpy_agree(tmp_path: Path) -> None:
    rows: dict[str, np.ndarray[Any, Any]] = {
        "input/x": np.arange(6, dtype=np.float32).reshape(3, 2),
        "labels": np.arange(3),
    }
    writer = NpzWriter(tmp_path / "samples.npz")
    for index in range(3):
        for name, array in rows.items():
            writer.append(name, array[index], count=3)
    writer.close()
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as stored:
        assert set(stored) == set(rows)
        for name, array in rows.items():
            np.testing.assert_array_equal(stored[name], array)
    assert [file.name for file in tmp_path.iterdir()] == ["samples.npz"]


def test_a_pickled_array_is_refused_before_it_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", good=np.zeros(2), bad=np.array([{}, {}], dtype=object))
    with pytest.raises(BadData, match=r"'bad' .* pickled Python objects") as caught:
        NpzReader(tmp_path / "x.npz")
    assert caught.value.remedy


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04cut off", pickle.dumps({"x": 1})])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(BadData, match=r"not a readable \.npz"):
        NpzReader(tmp_path / "x.npz")


def member(shape: tuple[int, ...], content: bytes = b"") -> io.BytesIO:
    """Make an .npz whose header promises a shape, whatever follows."""
    header, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + content)
    return file


def test_a_header_that_promises_too_much_is_refused_unread() -> None:
    with pytest.raises(BadData, match="more than the file holds"):
        NpzReader(member((100_000_000_000,)))


def test_a_cut_array_is_named() -> None:
    with NpzReader(member((4, 2), bytes(20))) as reader, pytest.raises(BadData, match=r"'x' .* cut off"):
        list(reader.rows("x"))


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.random.default_rng(0).random((50, 50)))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[5000] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(data)
    with NpzReader(tmp_path / "x.npz") as reader, pytest.raises(BadData, match="'x'"):
        list(reader.rows("x"))


def test_a_garbled_header_is_named() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': os.sys}")
    with pytest.raises(BadData, match=r"'x' .* no readable header"):
        NpzReader(file)


def test_too_many_arrays_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "MAX_ARRAYS", 3)
    np.savez(tmp_path / "x.npz", *[np.zeros(1)] * 4)
    with pytest.raises(TooLarge, match="4 arrays; the limit is 3"):
        NpzReader(tmp_path / "x.npz")


def test_texts_may_be_labels() -> None:
    file = io.BytesIO()
    np.savez(file, labels=np.array(["cat", "horse"]))
    with NpzReader(file) as reader:
        assert [str(row) for row in reader.rows("labels")] == ["cat", "horse"]
