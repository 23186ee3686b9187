"""What goes along with a model, how inputs and durations are written, and how arrays become files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.client.durations import parse_duration
from farm.client.models import collect, data_file, input_texts
from farm.domain.errors import BadData, BadRequest, FarmError, MissingFile
from farm.domain.inputs import parse_input


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_file_goes_alone(tmp_path: Path) -> None:
    make(tmp_path, "m.tflite", "m.tflite.data", "other.onnx")

    found = collect(tmp_path / "m.tflite")

    assert (list(found.files), found.is_tree, found.file_name) == (["m.tflite"], False, "m.tflite")


@pytest.mark.parametrize("sidecar", ["m.onnx.data", "m.onnx_data", "m.onnx_data_1", "m.data", "m.onnx.data.0"])
def test_external_data_of_onnx_comes_along(tmp_path: Path, sidecar: str) -> None:
    make(tmp_path, "m.onnx", sidecar, "n.onnx", "n.data")

    found = collect(tmp_path / "m.onnx")

    assert (set(found.files), found.is_tree, found.file_name) == ({"m.onnx", sidecar}, True, "m.onnx")


def test_a_name_with_wildcards_takes_nothing_of_others(tmp_path: Path) -> None:
    make(tmp_path, "[ab]*.onnx", "[ab]*.data", "axx.data")

    assert set(collect(tmp_path / "[ab]*.onnx").files) == {"[ab]*.onnx", "[ab]*.data"}


def test_a_folder_goes_whole(tmp_path: Path) -> None:
    make(tmp_path / "saved", "saved_model.pb", "variables/variables.index")

    found = collect(tmp_path / "saved")

    assert (set(found.files), found.is_tree) == ({"saved_model.pb", "variables/variables.index"}, True)
    assert found.file_name == "saved"


def test_a_folder_does_not_take_others_files_along(tmp_path: Path) -> None:
    make(tmp_path, "secret", "saved/saved_model.pb")
    (tmp_path / "saved/link").symlink_to(tmp_path / "secret")

    with pytest.raises(BadRequest, match="link to outside"):
        collect(tmp_path / "saved")


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    for path in (tmp_path / "none.onnx", tmp_path / "empty"):
        with pytest.raises(MissingFile, match=path.name):
            collect(path)


def test_a_builder_stands_beside_its_weights(tmp_path: Path) -> None:
    weights, builder = tmp_path / "w.pth", tmp_path / "code" / "build.py"
    builder.parent.mkdir()
    for path in (weights, builder):
        path.write_text("x")

    found = collect(weights, builder)

    assert (found.is_tree, found.file_name) == (True, "w.pth")
    assert found.files == {"w.pth": weights, "build.py": builder}


@pytest.mark.parametrize(
    ("model", "builder", "kind", "said"),
    [
        ("w.pth", "none.py", MissingFile, "does not exist"),
        ("w.pth", "w.pth", BadRequest, "must end in .py"),
        ("m.onnx", "build.py", BadRequest, "'m.onnx' is none"),
    ],
)
def test_a_builder_that_does_not_belong(
    tmp_path: Path, model: str, builder: str, kind: type[FarmError], said: str
) -> None:
    for name in ("w.pth", "m.onnx", "build.py"):
        (tmp_path / name).write_text("x")

    with pytest.raises(kind, match=said):
        collect(tmp_path / model, tmp_path / builder)


def test_inputs_are_written_one_way() -> None:
    assert input_texts({"x": (1, 3, 8, 8)}) == ["x:float32[1,3,8,8]"]
    assert input_texts({"ids": ((1, 128), "int64")}) == ["ids:int64[1,128]"]
    assert input_texts({"scalar": ()}) == ["scalar:float32[]"]
    assert input_texts(["a/b:0:int8[1, 2]"]) == ["a/b:0:int8[1,2]"]
    assert input_texts(["x:float32[1, 2] in -0.5 .. 255"]) == ["x:float32[1,2] in -0.5..255"]


@given(
    name=st.text(st.characters(codec="ascii", categories=("L", "N"), include_characters=":/[]._"), min_size=1),
    dtype=st.sampled_from(["float32", "int64", "bool"]),
    shape=st.lists(st.integers(1, 4096), max_size=5),
)
def test_any_name_survives(name: str, dtype: str, shape: list[int]) -> None:
    (text,) = input_texts({name: (shape, dtype)})

    spec = parse_input(text).spec

    assert (spec.name, spec.dtype, spec.shape) == (name, dtype, tuple(shape))


@pytest.mark.parametrize("wrong", ["x", "x:float32", "x:float99[1]", "x:float32[1,0]", "x:float32[n]", ":float32[1]"])
def test_inputs_that_do_not_read(wrong: str) -> None:
    with pytest.raises(FarmError, match="Input"):
        input_texts([wrong])


def test_arrays_become_an_npz(tmp_path: Path) -> None:
    samples = np.arange(8, dtype=np.float32).reshape(2, 4)

    path = data_file({"in/put:0": samples}, tmp_path, what="calibration")

    with np.load(path, allow_pickle=False) as loaded:
        assert loaded.files == ["in/put:0"]
        np.testing.assert_array_equal(loaded["in/put:0"], samples)


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args"])
def test_an_input_may_be_called_as_an_argument_of_savez_is(name: str, tmp_path: Path) -> None:
    path = data_file({name: np.arange(6.0).reshape(2, 3)}, tmp_path, what="calibration")

    with np.load(path, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored[name], [[0, 1, 2], [3, 4, 5]])


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="objects"):
        data_file({"x": np.array([{}])}, tmp_path, what="calibration")


def test_data_files_must_be_npz(tmp_path: Path) -> None:
    make(tmp_path, "data.pkl")

    with pytest.raises(BadData, match=r"data\.pkl"):
        data_file(tmp_path / "data.pkl", tmp_path, what="evaluation")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("15min", 900),
        ("24h", 86_400),
        ("7d", 604_800),
        ("1.5h", 5400),
        ("30", 30),
        (2.5, 2.5),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("wrong", ["", "h", "24 hours", "-3h", "1e3s", -1, float("nan"), float("inf")])
def test_durations_that_are_none(wrong: str | float) -> None:
    with pytest.raises(BadRequest, match="Duration"):
        parse_duration(wrong)
