"""What a user hands over, as files: models with their sidecars, and arrays as .npz."""

from __future__ import annotations

import glob
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from farm.client.pictures import pack
from farm.domain.errors import BadData, BadRequest, MissingFile
from farm.domain.inputs import parse_input

if TYPE_CHECKING:
    import numpy as np

ModelPath: TypeAlias = str | os.PathLike[str]
Shape: TypeAlias = Sequence[int]
InputSpecs: TypeAlias = "Sequence[str] | Mapping[str, Shape | tuple[Shape, str]]"
Arrays: TypeAlias = "ModelPath | Mapping[str, np.ndarray[Any, Any]]"

WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
"""Endings of files that may hold weights without their program."""
SIDECARS = ("{name}.data*", "{name}_data*", "{stem}.data*")


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a submission.

    Attributes:
        path: a file or a folder; the external data of an .onnx file comes along.
        builder: the Python file whose build() returns the torch.nn.Module that a weights file belongs to.
        inputs: `NAME:DTYPE[D,D,…]` strings, also with the values they take (`… in 0..255`), or {name: shape} (float32)
            and {name: (shape, dtype)}.
        calibration: an .npz file, arrays by input name with the samples on the first axis, or a folder of pictures.
        evaluation: the same, with `labels`, or with labels.csv in the folder.
        preprocessing: how pictures become the input; what it may say stands in farm.domain.preprocessing.
    """

    path: ModelPath
    name: str | None = None
    inputs: InputSpecs = ()
    calibration: Arrays | None = None
    evaluation: Arrays | None = None
    metric: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    builder: ModelPath | None = None


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model by their relative POSIX names."""

    files: Mapping[str, Path]
    is_tree: bool
    file_name: str


def collect(path: ModelPath, builder: ModelPath | None = None) -> ModelFiles:
    """Find a model's files; with a builder, a weights file becomes a folder of both.

    Raises:
        MissingFile: nothing is there, or the folder is empty.
        BadRequest: neither a file nor a folder, a link that leaves the folder, or a builder that does not belong there.
    """
    given = Path(path)
    if builder is not None:
        return _with_builder(collect(given), Path(builder))
    if given.is_dir():
        return ModelFiles(_folder(given), is_tree=True, file_name=given.resolve().name)
    if not given.exists():
        raise MissingFile(f"Model {str(given)!r} does not exist.", remedy="Check the path; it is taken from here.")
    if not given.is_file():
        raise BadRequest(f"Model {str(given)!r} is neither a file nor a folder.")
    beside = _sidecars(given) if given.suffix.lower() == ".onnx" else {}
    return ModelFiles({given.name: given, **beside}, is_tree=bool(beside), file_name=given.name)


def _with_builder(model: ModelFiles, builder: Path) -> ModelFiles:
    if not builder.is_file():
        raise MissingFile(f"The builder file {str(builder)!r} does not exist.")
    if builder.suffix != ".py":
        raise BadRequest(f"The builder {str(builder)!r} is no Python file; its name must end in .py.")
    if not any(Path(name).suffix.lower() in WEIGHTS for name in model.files):
        raise BadRequest(
            f"A builder goes with weights of torch ({', '.join(WEIGHTS)}); {model.file_name!r} is none.",
            remedy="Leave --builder out: other formats hold their program themselves.",
        )
    return ModelFiles({**model.files, builder.name: builder}, is_tree=True, file_name=model.file_name)


def input_texts(inputs: InputSpecs) -> list[str]:
    """Write input specs as NAME:DTYPE[D,D,…], with `in LOW..HIGH` where that is said.

    Raises:
        BadRequest: a spec does not parse.
    """
    texts = [_input_text(*item) for item in inputs.items()] if isinstance(inputs, Mapping) else list(inputs)
    return [str(parse_input(text)) for text in texts]


def data_file(given: Arrays, folder: Path, *, what: str, preprocessing: Mapping[str, Any] | None = None) -> Path:
    """Return the .npz file of `given`, saving arrays into `folder`; of a folder of pictures, one file of all.

    Raises:
        MissingFile: the file is not there, or the folder holds no picture.
        BadData: the file is no .npz, or an array holds objects.
        BadRequest: pictures come without a declaration of their preprocessing that fits.
    """
    if isinstance(given, Mapping):
        return _save(given, folder / f"{what}.npz", what=what)
    path = Path(given)
    if path.is_dir():
        return pack(path, folder, preprocessing, what=what)
    if not path.is_file():
        raise MissingFile(f"The {what} file {str(path)!r} does not exist.")
    if path.suffix.lower() != ".npz":
        raise BadData(
            f"The {what} file {str(path)!r} is neither an .npz file nor a folder of pictures.",
            remedy="Save it with numpy.savez(file, **{'INPUT_NAME': array}), or give a folder and --preprocessing.",
        )
    return path


def _folder(root: Path) -> dict[str, Path]:
    inside = root.resolve()
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    for name, path in files.items():
        if not path.resolve().is_relative_to(inside):
            raise BadRequest(f"{name!r} in {str(root)!r} is a link to outside; put the file itself there.")
    if not files:
        raise MissingFile(f"Folder {str(root)!r} holds no files.")
    return files


def _sidecars(model: Path) -> dict[str, Path]:
    names = {"name": glob.escape(model.name), "stem": glob.escape(model.stem)}
    found = {path for pattern in SIDECARS for path in model.parent.glob(pattern.format(**names)) if path.is_file()}
    return {path.name: path for path in sorted(found)}


def _input_text(name: str, spec: Shape | tuple[Shape, str]) -> str:
    shape, dtype = (spec[0], spec[1]) if len(spec) == 2 and isinstance(spec[1], str) else (spec, "float32")
    sizes = shape if isinstance(shape, Sequence) else (shape,)
    return f"{name}:{dtype}[{','.join(str(size) for size in sizes)}]"


def _save(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path, *, what: str) -> Path:
    """Write an .npz as numpy.savez does, which has no room for arrays of its own arguments' names."""
    import numpy as np

    prepared = {name: np.asarray(array) for name, array in arrays.items()}
    objects = [name for name, array in prepared.items() if array.dtype.hasobject]
    if objects:
        raise BadData(f"The {what} array {objects[0]!r} holds Python objects; numbers are needed.")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in prepared.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return path
