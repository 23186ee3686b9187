"""Hashing files, and the names that a tree may have."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import BadRequest, DigestMismatch, MissingFile, TransferFailed, UnsafeModel
from farm.domain.names import check_names
from farm.transfer import hash_file
from farm.transfer.download import part_path
from farm.transfer.link import Patience
from farm.transfer.upload import extents_of


@pytest.mark.parametrize("size_bytes", [0, 1, 1 << 20, (1 << 20) + 1])
def test_a_file_is_described_by_name_digest_and_size(tmp_path: Path, size_bytes: int) -> None:
    data = bytes(i % 251 for i in range(size_bytes))
    (tmp_path / "m.onnx").write_bytes(data)
    seen: list[int] = []
    file = hash_file(tmp_path / "m.onnx", seen.append)
    assert (file.name, file.sha256, file.size_bytes) == ("m.onnx", hashlib.sha256(data).hexdigest(), size_bytes)
    assert seen[-1:] == ([size_bytes] if size_bytes else [])


@pytest.mark.parametrize("change", [b"more", b""])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, change: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x" * (3 << 20))
    with pytest.raises(DigestMismatch, match="changed"):
        hash_file(path, lambda _done: path.write_bytes(change))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"absent\.onnx"):
        hash_file(tmp_path / "absent.onnx")
    with pytest.raises(BadRequest):
        hash_file(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../x", "/x", "a/../b", "a/./b", "a//b", "a/", "", ".", "..", "a\\b", "a\0b", "a\x1b[2J", "a\u202eb", "x" * 256],
)
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(UnsafeModel):
        check_names(["fine", name])


def test_a_name_may_come_once() -> None:
    check_names(["saved_model.pb", "variables/variables.index", "ümlaut <b>.onnx", "..hidden"])
    with pytest.raises(UnsafeModel, match="twice"):
        check_names(["a", "b", "a"])


@given(st.text(max_size=60))
def test_an_accepted_name_stays_below_its_folder(name: str) -> None:
    try:
        check_names([name])
    except UnsafeModel:
        return
    assert (Path("/folder") / name).resolve().is_relative_to("/folder")
    assert (Path("/folder") / name).resolve() != Path("/folder")


@given(st.integers(0, 1 << 36), st.integers(5 << 20, 1 << 30))
def test_parts_cover_a_file_without_gap(size_bytes: int, part_bytes: int) -> None:
    extents = extents_of(size_bytes, part_bytes)
    assert [number for number, _, _ in extents] == list(range(1, len(extents) + 1))
    assert sum(extent[2] for extent in extents) == size_bytes
    assert all(first == (number - 1) * part_bytes for number, first, _ in extents)


def test_a_partial_files_name_fits_the_file_system(tmp_path: Path) -> None:
    path = part_path(tmp_path / ("ä" * 127), "ab" * 32)
    path.write_bytes(b"")
    assert path.parent == tmp_path


def test_patience_ends_without_progress_and_lasts_with_it() -> None:
    patience = Patience(budget_s=0.3)
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        if len(tries) < 4:
            patience.moved()
        raise TransferFailed("cut")

    with pytest.raises(TransferFailed):
        patience.retry(fail)
    assert len(tries) >= 4


def test_a_store_that_refuses_every_url_is_believed_soon() -> None:
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        raise TransferFailed("403", expired=True)

    with pytest.raises(TransferFailed):
        Patience(budget_s=60).retry(refuse)
    assert len(tries) == 3
