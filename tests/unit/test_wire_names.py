"""What the wire refuses before anything is stored."""

from __future__ import annotations

import pytest

from farm.domain.errors import UnsafeModel
from farm.wire.base import FileEntry

SHA256 = "0" * 64


@pytest.mark.parametrize(
    "name", ["../../x.onnx", "/etc/x", "a//b", "./a", "a\\b", "a\0b", "bold\x1b[31m.onnx", "x" * 256]
)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(UnsafeModel) as told:
        FileEntry(name=name, sha256=SHA256, size_bytes=1)

    assert repr(name) in told.value.message


def test_a_plain_name_is_taken() -> None:
    assert FileEntry(name="variables/ümlaut <b>.index", sha256=SHA256, size_bytes=1).name.startswith("variables")
