"""A model's format is told from its names."""

from __future__ import annotations

import pytest

from farm.catalog import source_format
from farm.domain.artifact import Artifact, FileRef
from farm.domain.errors import UnknownFormat
from farm.domain.facts import Format


def artifact(*names: str) -> Artifact:
    return Artifact(tuple(FileRef(name, "0" * 64, 1) for name in sorted(names)), is_tree=len(names) > 1)


@pytest.mark.parametrize(
    ("file_name", "names", "expected"),
    [
        ("model.pth", ("model.pth",), Format.TORCHSCRIPT),
        ("epoch.ckpt", ("epoch.ckpt",), Format.TORCH_STATE_DICT),
        ("w.safetensors", ("w.safetensors",), Format.TORCH_STATE_DICT),
        ("w.pth", ("build.py", "w.pth"), Format.TORCH_STATE_DICT),
        ("net", ("net.py", "w.bin"), Format.TORCH_STATE_DICT),
        ("bert", ("config.json", "model.safetensors", "vocab.txt"), Format.HUGGING_FACE),
        ("bert", ("config.json", "modeling_own.py", "pytorch_model.bin"), Format.HUGGING_FACE),
        ("bert", ("config.json", "vocab.txt"), Format.HUGGING_FACE),
        ("exported", ("config.json", "model.onnx"), Format.ONNX),
        ("exported", ("model.onnx", "build.py"), Format.ONNX),
        ("saved", ("saved_model.pb", "variables/variables.index"), Format.TF_SAVEDMODEL),
    ],
)
def test_a_folder_is_told_by_what_stands_beside_the_weights(
    file_name: str, names: tuple[str, ...], expected: Format
) -> None:
    assert source_format(file_name, artifact(*names)) is expected


def test_what_is_none_of_them_lists_the_known_ones() -> None:
    with pytest.raises(UnknownFormat, match=r"known endings are \.ckpt, .*config\.json"):
        source_format("photos", artifact("a.jpg", "b.jpg"))
