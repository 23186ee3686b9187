"""Pictures to arrays: each step of a declared preprocessing beside its definition, and files that are no pictures."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from farm.domain.errors import BadData, BadRequest, MissingFile, TooLarge
from farm.domain.preprocessing import declared, read_preprocessing
from farm.domain.stage import Options, StageInput
from tests.picture_folders import DECLARED, draw, label, packed
from workers.stages.inspect.pictures import run
from workers.stages.npz import NpzReader
from workers.stages.pictures import open_picture, prepare

RGB = np.random.default_rng(1).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def prepared(pixels: np.ndarray[Any, Any] = RGB, **told: Any) -> np.ndarray[Any, Any]:
    wanted = read_preprocessing({"input": "x", **told})
    mode = "L" if wanted.channels == 1 else "RGB"
    return prepare(Image.fromarray(pixels).convert(mode), wanted, "p.png")[0]


def inspected(folder: Path, told: dict[str, Any] = DECLARED) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    work = folder.with_name(f"{folder.name}-work")
    work.mkdir()
    output = run(StageInput({"model": packed(folder, told)}, Options(), {}, None, work))
    with NpzReader(output.files["data"]) as data:
        return dict(output.facts), {name: data.array(name) for name in data.headers}


def test_values_are_scaled_and_channels_come_first() -> None:
    np.testing.assert_allclose(prepared(), RGB.transpose(2, 0, 1).astype(np.float32) / 255, rtol=1e-6)


def test_mean_and_std_go_by_channel_in_the_declared_order_of_colours() -> None:
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    found = prepared(mean=mean, std=std, colours="bgr", layout="nhwc")

    np.testing.assert_allclose(found, (RGB[:, :, ::-1] / 255 - mean) / std, rtol=1e-5, atol=1e-6)


def test_whole_numbers_are_rounded_and_kept_in_range() -> None:
    found = prepared(dtype="uint8", scale=1.0, layout="nhwc")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, RGB)
    shifted = prepared(dtype="int8", scale=1.0, mean=[128, 128, 128], layout="nhwc")
    np.testing.assert_array_equal(shifted, (RGB.astype(int) - 128).astype(np.int8))


def test_the_shorter_side_keeps_the_shape_and_the_middle_is_cropped() -> None:
    assert prepared(resize=[12]).shape == (3, 12, 20)
    np.testing.assert_array_equal(prepared(crop=[2, 4], scale=1.0, layout="nhwc"), RGB[2:4, 3:7])
    assert prepared(resize=[4, 4], colours="grey").shape == (1, 4, 4)
    with pytest.raises(BadData, match="6 x 10"):
        prepared(crop=[7, 4])


def test_a_very_long_picture_is_not_blown_up() -> None:
    with pytest.raises(TooLarge, match="224 x 2240000"):
        prepared(np.zeros((1, 10_000, 3), np.uint8), resize=[224])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16))
def test_one_size_is_that_of_the_shorter_side(height: int, width: int, size: int) -> None:
    found = prepared(np.zeros((height, width, 3), np.uint8), resize=[size]).shape[1:]
    assert min(found) == size


def test_a_phone_s_picture_is_turned_upright() -> None:
    written = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(written, "PNG", exif=exif)
    picture = open_picture(io.BytesIO(written.getvalue()), "p.png", read_preprocessing({"input": "x"}))

    assert picture.size == (6, 10)


def test_a_folder_becomes_arrays_with_labels_by_class_name(tmp_path: Path) -> None:
    folder = label(draw(tmp_path / "photos", 10, 200, 30), "file,label", "000.png,dark", "001.png,bright", "002.png,0")
    facts, arrays = inspected(folder)

    assert arrays["image"].shape == (3, 3, 8, 8)
    assert arrays["labels"].tolist() == [0, 1, 0]
    assert arrays["image"].reshape(3, -1).mean(axis=1) == pytest.approx([0.08, 0.82, 0.16], abs=0.02)
    assert facts["arrays"]["labels"]["classes"] == 2
    assert facts["preprocessing"] == declared(read_preprocessing(DECLARED))


def test_numbers_that_are_no_classes_stay_numbers(tmp_path: Path) -> None:
    folder = label(draw(tmp_path / "photos", 10, 20), "file,label", "000.png,0.5", "001.png,2")
    assert inspected(folder)[1]["labels"].tolist() == [0.5, 2.0]


def test_boxes_go_where_their_picture_s_points_went(tmp_path: Path) -> None:
    """A box of the middle of a 12 x 10 picture, resized to 24 x 20 and cropped to 16 x 16."""
    head = "file,x1,y1,x2,y2,class"
    folder = label(draw(tmp_path / "photos", 10, 20), head, "000.png,4,3,8,7,bright", "000.png,0,0,12,10,dark")
    arrays = inspected(folder, DECLARED | {"resize": [20, 24], "crop": [16, 16]})[1]

    assert arrays["labels"].shape == (2, 2, 5)
    assert arrays["labels"][0].tolist() == [[4, 4, 12, 12, 1], [-4, -2, 20, 18, 0]]
    assert arrays["labels"][1, :, 4].tolist() == [-1, -1]


def test_equal_folders_are_equal_files(tmp_path: Path) -> None:
    one, other = (packed(label(draw(tmp_path / n, 10, 20), "file,label", "000.png,1", "001.png,0")) for n in "ab")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["name,label"], "its first line is 'name,label'"),
        (
            ["file,label", "000.png,cat", "001.png,0"],
            "line 2 has the label 'cat': the declared classes are dark, bright",
        ),
        (["file,label", "000.png,1"], "1 pictures have no line, the first is '001.png'"),
        (["file,label", "000.png,1", "001.png,1", "no.png,1"], "'no.png' is not in the folder"),
        (["file,label", "000.png", "001.png,1"], "line 2 has 1 values instead of 2"),
    ],
)
def test_labels_that_do_not_fit_the_folder_are_refused(tmp_path: Path, lines: list[str], says: str) -> None:
    folder = label(draw(tmp_path / "photos", 10, 20), *lines)
    with pytest.raises(BadData, match=says.replace("(", r"\(")):
        inspected(folder)


def test_pictures_of_several_sizes_need_a_resize(tmp_path: Path) -> None:
    draw(tmp_path / "photos", 10)
    Image.fromarray(RGB).save(tmp_path / "photos" / "other.png")
    with pytest.raises(BadData, match=r"comes out as \[3, 6, 10\], the first one as \[3, 10, 12\]"):
        inspected(tmp_path / "photos", {"input": "image"})


def bomb() -> bytes:
    """Write a PNG of 100,000 x 100,000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"no picture", BadData),
        (b"", BadData),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BadData),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", BadData),
        (bomb(), (BadData, TooLarge)),
    ],
)
def test_what_is_no_picture_is_refused(content: bytes, error: Any) -> None:
    with pytest.raises(error, match=r"p\.png"):
        open_picture(io.BytesIO(content), "p.png", read_preprocessing({"input": "x"}))


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_damaged_pictures_end_in_a_refusal_or_a_picture(place: int, damage: bytes) -> None:
    written = io.BytesIO()
    Image.fromarray(RGB).save(written, "PNG")
    content = bytearray(written.getvalue())
    at = place % len(content)
    content[at : at + len(damage)] = damage
    with contextlib.suppress(BadData, TooLarge):
        assert open_picture(io.BytesIO(bytes(content)), "p.png", read_preprocessing({"input": "x"})).mode == "RGB"


def archive(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in files.items():
            made.writestr(name.replace("_", "."), content)
    return path


@pytest.mark.parametrize(
    ("files", "error", "says"),
    [
        ({}, BadData, "holds no picture"),
        ({"a_png": b"x"}, MissingFile, "without a declaration"),
        ({"a_png": b"x", "preprocessing_json": b"{"}, BadData, "no JSON"),
        ({"a_png": b"x", "preprocessing_json": b"[]"}, BadData, "no table"),
        ({"a_png": b"x", "preprocessing_json": json.dumps({"input": "x"}).encode()}, BadData, r"a\.png"),
        ({"a_png": b"x", "preprocessing_json": b'{"input": "x", "resize": [0]}'}, BadRequest, "resize"),
    ],
)
def test_archives_that_nobody_s_client_packed(tmp_path: Path, files: dict[str, bytes], error: Any, says: str) -> None:
    given_ = archive(tmp_path / "a.zip", **files)
    with pytest.raises(error, match=says):
        run(StageInput({"model": given_}, Options(), {}, None, tmp_path))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "input = None is not the name"),
        ({"input": "x", "means": [1]}, "means is not known"),
        ({"input": "x", "resize": [224, 224, 3]}, "resize = [224, 224, 3] is not a list"),
        ({"input": "x", "mean": [0.5]}, "mean = [0.5] is not a list of 3 numbers"),
        ({"input": "x", "std": [0, 1, 1]}, "is not above 0"),
        ({"input": "x", "layout": "chw"}, "layout = 'chw' is not one of nchw, nhwc"),
        ({"input": "x", "dtype": "float"}, "dtype = 'float'"),
        ({"input": "x", "classes": ["a", "a"]}, "classes = ['a', 'a']"),
    ],
)
def test_declarations_that_do_not_fit_are_refused(told: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read_preprocessing(told)
    assert says in raised.value.message
