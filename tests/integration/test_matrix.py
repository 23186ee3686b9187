"""The matrix, run over real models: it comes out as its document says."""

from pathlib import Path

import pytest

from tests import matrix
from tests.matrix_page import read_states

pytestmark = [pytest.mark.toolchain, pytest.mark.slow]


@pytest.mark.timeout(1800)
def test_every_cell_ends_as_the_document_says(tmp_path: Path) -> None:
    matrix.write(tmp_path / "matrix.md")

    assert read_states((tmp_path / "matrix.md").read_text()) == read_states(matrix.DOCUMENT.read_text())
