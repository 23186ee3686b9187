"""Keys and names: nothing a user writes leaves its place in the bucket."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import BadRequest
from farm.store import blob_key, safe_name, upload_key


@given(st.text(max_size=300))
def test_a_safe_name_is_one_plain_segment(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9._+-]{0,99}", safe_name(name))


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_names_do_not_meet(one: str, other: str) -> None:
    assert one == other or safe_name(one) != safe_name(other)


@given(st.text(max_size=300))
def test_a_safe_name_stays_as_it_is(name: str) -> None:
    assert safe_name(safe_name(name)) == safe_name(name)


@pytest.mark.parametrize("name", ["ch_PP-OCRv4_det_infer.onnx", "model", "v1.2+cpu"])
def test_plain_names_are_kept(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "\x1b[31mred", "<script>alert(1)</script>", "a\nb", "..", "", "NUL", ".env"]
)
def test_hostile_names_become_harmless(name: str) -> None:
    made = safe_name(name)
    assert made != name
    assert not set(made) & set("/\\<>&\"'\x1b\n ")
    assert not made.startswith(".")


def test_keys_are_placed_by_digest() -> None:
    assert blob_key("ab" * 32) == f"blobs/sha256/ab/{'ab' * 32}"
    assert blob_key("ab" * 32, "vision") == f"projects/vision/blobs/sha256/ab/{'ab' * 32}"
    assert upload_key("u-1") == "uploads/u-1/file"


@pytest.mark.parametrize("digest", ["", "AB" * 32, "../x", "ab" * 31, "ab" * 32 + "\n"])
def test_what_is_no_digest_has_no_key(digest: str) -> None:
    with pytest.raises(BadRequest):
        blob_key(digest)


@pytest.mark.parametrize("upload_id", ["", "../x", "a/b", "-x", "x\n"])
def test_what_is_no_upload_id_has_no_key(upload_id: str) -> None:
    with pytest.raises(BadRequest):
        upload_key(upload_id)
