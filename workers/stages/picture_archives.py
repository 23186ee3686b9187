"""A folder of pictures as it is submitted: a .zip of pictures, labels.csv and preprocessing.json.

labels.csv has a head line: `file,label` with a class number, a number or a class's name, or
`file,x1,y1,x2,y2,class` with a line for each box, in pixels of the file.
Source: RFC 4180 (CSV); APPNOTE.TXT (ZIP).
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from farm.domain.errors import BadData, MissingFile, TooLarge
from farm.domain.preprocessing import Preprocessing, read_preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS_FILE, PREPROCESSING_FILE = "labels.csv", "preprocessing.json"
MOST_FILES = 100_000
MOST_FILE_BYTES = 256 << 20
MOST_TABLE_BYTES = 64 << 20
PLAIN, BOXES = ("file", "label"), ("file", "x1", "y1", "x2", "y2", "class")
NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class Labels:
    """What labels.csv says, by file: one value, or boxes with their classes, (boxes, 5)."""

    values: dict[str, float | int] = field(default_factory=dict)
    boxes: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        return set(self.values) | set(self.boxes)


class PictureArchive:
    """An open archive; nothing is unpacked to disk.

    Raises:
        BadData: it is no .zip, or holds no picture.
        TooLarge: too many files, or one too large.
        MissingFile: preprocessing.json is missing.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self._what = what
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as exc:
            raise BadData(f"The {what} folder did not arrive as a readable .zip: {exc}.") from exc
        entries = [info for info in self._zip.infolist() if not info.is_dir()]
        if len(entries) > MOST_FILES:
            raise TooLarge(f"The {what} folder holds {len(entries):,} files; the limit is {MOST_FILES:,}.")
        for info in entries:
            if info.file_size > MOST_FILE_BYTES:
                raise TooLarge(f"{info.filename!r} is {info.file_size:,} bytes; the limit is {MOST_FILE_BYTES:,}.")
        tables = (LABELS_FILE, PREPROCESSING_FILE)
        self._tables = {info.filename for info in entries if info.filename in tables}
        self.pictures = sorted(info.filename for info in entries if info.filename not in tables)
        if not self.pictures:
            raise BadData(f"The {what} folder holds no picture.")

    def __enter__(self) -> PictureArchive:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._zip.close()

    def preprocessing(self) -> Preprocessing:
        """Read how pictures become inputs.

        Raises:
            BadRequest: the declaration does not fit.
        """
        text = self._text(PREPROCESSING_FILE)
        if text is None:
            raise MissingFile(
                f"The {self._what} folder comes without a declaration of its preprocessing.",
                remedy="Add --preprocessing FILE.yaml; docs/accuracy.md tells what it may say.",
            )
        try:
            told = json.loads(text)
        except ValueError as exc:
            raise BadData(f"{PREPROCESSING_FILE} is no JSON: {exc}.") from exc
        if not isinstance(told, dict):
            raise BadData(f"{PREPROCESSING_FILE} is no table of names and values.")
        return read_preprocessing(told)

    def labels(self, classes: Sequence[str]) -> Labels | None:
        """Read labels.csv; None where there is none.

        Raises:
            BadData: a line does not read, names a file that is not there, or leaves one out; every reason, up to ten.
        """
        text = self._text(LABELS_FILE)
        if text is None:
            return None
        labels, problems = _read_labels(text, classes)
        unknown, without = sorted(labels.names - set(self.pictures)), sorted(set(self.pictures) - labels.names)
        problems += [f"{name!r} is not in the folder" for name in unknown[:3]]
        if without and not labels.boxes:
            problems += [f"{len(without)} pictures have no line, the first is {without[0]!r}"]
        if problems:
            raise BadData(
                f"{LABELS_FILE} does not fit: {'; '.join(problems[:10])}.",
                remedy="Its first line is file,label or file,x1,y1,x2,y2,class; docs/accuracy.md shows both.",
            )
        return labels

    def files(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Yield every picture's bytes, one after the other, by name."""
        for name in self.pictures:
            try:
                yield name, io.BytesIO(self._zip.read(name))
            except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as exc:
                raise BadData(f"{name!r} of the {self._what} folder is damaged: {exc}.") from exc

    def _text(self, name: str) -> str | None:
        if name not in self._tables:
            return None
        if self._zip.getinfo(name).file_size > MOST_TABLE_BYTES:
            raise TooLarge(f"{name} is over {MOST_TABLE_BYTES >> 20} MiB.")
        try:
            return self._zip.read(name).decode("utf-8-sig")
        except (zipfile.BadZipFile, UnicodeDecodeError, RuntimeError, NotImplementedError, EOFError) as exc:
            raise BadData(f"{name} can't be read as UTF-8 text: {exc}.") from exc


def _read_labels(text: str, classes: Sequence[str]) -> tuple[Labels, list[str]]:
    labels, problems = Labels(), []
    numbers = {name: number for number, name in enumerate(classes)}
    try:
        head, *lines = [line for line in csv.reader(io.StringIO(text)) if line] or [[]]
    except csv.Error as exc:
        return labels, [str(exc)]
    names = tuple(name.strip().lower() for name in head)
    if names not in (PLAIN, BOXES):
        return labels, [f"its first line is {','.join(head)[:80]!r}"]
    for number, line in enumerate(lines, 2):
        try:
            if len(line) != len(names):
                raise ValueError(f"has {len(line)} values instead of {len(names)}")
            if names == PLAIN:
                labels.values[line[0]] = _value(line[1].strip(), numbers)
            else:
                corners = tuple(float(value) for value in line[1:5])
                labels.boxes.setdefault(line[0], []).append((*corners, _value(line[5].strip(), numbers)))
        except ValueError as exc:
            problems.append(f"line {number} {exc}")
    return labels, problems


def _value(text: str, numbers: dict[str, int]) -> float | int:
    """Read a class's name, or a number."""
    if text in numbers:
        return numbers[text]
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        known = f"the declared classes are {', '.join(numbers)[:200]}" if numbers else "no classes are declared"
        raise ValueError(f"has the label {text[:80]!r}: {known}") from None


def padded_boxes(boxes: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack (boxes, 5) of several pictures to (pictures, most boxes, 5), padded with rows of class -1."""
    import numpy as np

    most = max(1, *(len(one) for one in boxes))
    stacked = np.zeros((len(boxes), most, 5), dtype=np.float32)
    stacked[:, :, 4] = NO_CLASS
    for row, one in enumerate(boxes):
        stacked[row, : len(one)] = one
    return stacked
