"""What was submitted is a file, or a folder with one."""

from pathlib import Path

import pytest

from farm.domain.errors import CorruptModel, MissingFile
from workers.runtimes import deployable_runtimes
from workers.runtimes.files import entry_file, tree_size_bytes
from workers.runtimes.reference_model import reference_model


def test_a_file_is_itself_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("x")
    assert entry_file(tmp_path / "blob", (".onnx",)) == tmp_path / "blob"


def test_a_folder_holds_one_model_and_its_data(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("x")
    (tmp_path / "weights.bin").write_text("yy")
    assert entry_file(tmp_path, (".onnx",)).name == "model.onnx"
    assert tree_size_bytes(tmp_path) == 3


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(MissingFile, match=r"holds no \.onnx file; it holds readme\.txt"):
        entry_file(tmp_path, (".onnx",))


def test_a_folder_with_two_models_is_refused(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_text("x")
    with pytest.raises(CorruptModel, match=r"holds 2 \.onnx files"):
        entry_file(tmp_path, (".onnx",))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    with pytest.raises(CorruptModel, match="empty"):
        entry_file(tmp_path / "m.onnx", (".onnx",))


@pytest.mark.parametrize("runtime", [runtime.name for runtime in deployable_runtimes()])
def test_every_deployable_runtime_has_its_reference_model(runtime: str) -> None:
    assert 1000 < reference_model(runtime).stat().st_size < 150_000
