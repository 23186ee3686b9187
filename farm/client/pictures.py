"""A folder of pictures as one file: what inspection reads on the farm. Nothing is decoded here."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.domain.errors import BadRequest, MissingFile
from farm.domain.preprocessing import declared, read_preprocessing

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")
LABELS_FILE, PREPROCESSING_FILE = "labels.csv", "preprocessing.json"
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""Equal folders are equal files, so what was made of them is found again."""


def pack(folder: Path, into: Path, preprocessing: Mapping[str, Any] | None, *, what: str) -> Path:
    """Put the pictures of a folder, its labels.csv and the declared preprocessing into one file.

    Raises:
        MissingFile: the folder holds no picture.
        BadRequest: no preprocessing is declared, it does not fit, or a picture is a link to outside.
    """
    if preprocessing is None:
        raise BadRequest(
            f"The {what} data {str(folder)!r} is a folder of pictures; how they become inputs must be declared.",
            remedy="Add --preprocessing FILE.yaml; docs/accuracy.md tells what it may say.",
        )
    wanted = declared(read_preprocessing(preprocessing))
    pictures = _pictures(folder, what=what)
    target = into / f"{what}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in pictures.items():
            _add(archive, name, path)
        if (folder / LABELS_FILE).is_file():
            _add(archive, LABELS_FILE, folder / LABELS_FILE)
        archive.writestr(zipfile.ZipInfo(PREPROCESSING_FILE, _FIXED_TIME), json.dumps(wanted, sort_keys=True))
    return target


def _pictures(folder: Path, *, what: str) -> dict[str, Path]:
    inside = folder.resolve()
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix.lower() in SUFFIXES
    }
    if not found:
        raise MissingFile(f"The {what} folder {str(folder)!r} holds no picture ({', '.join(SUFFIXES)}).")
    for name, path in found.items():
        if not path.resolve().is_relative_to(inside):
            raise BadRequest(f"{name!r} in {str(folder)!r} is a link to outside; put the file itself there.")
    return found


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = zipfile.ZipInfo(name, _FIXED_TIME)
    entry.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)
