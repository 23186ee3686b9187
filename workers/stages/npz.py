"""Read and write .npz files row by row, so that a data set never has to fit into memory.

Source: NumPy's format specification (numpy.lib.format): a zip of .npy members, each a header and raw values.
Pickled members are refused by their header, before any value is read.
"""

from __future__ import annotations

import hashlib
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from farm.domain.errors import BadData, TooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_UNREADABLE = (
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
)
"""What NumPy and zipfile raise on a header that is damaged, encrypted or made up."""
MAX_ARRAYS = 1000
MAX_ROW_BYTES = 2 << 30
MAX_RATIO = 1100
"""Deflate shrinks by at most 1032; a header that promises more than that lies."""


@dataclass(frozen=True, slots=True)
class ArrayHeader:
    """One member: `shape` as stored, dtype by its NumPy name."""

    dtype: str
    shape: tuple[int, ...]
    fortran_order: bool = False

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 0


class NpzReader:
    """An open .npz: headers by name, and rows on demand.

    Raises:
        BadData: the file is no .npz, is damaged, or holds Python objects; the message names the array.
    """

    def __init__(self, file: Path | IO[bytes], *, what: str = "data") -> None:
        self._what = what
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError) as exc:
            raise BadData(
                f"The {what} file is not a readable .npz: {exc}.", remedy="Write it with numpy.savez."
            ) from exc
        members = [info for info in self._zip.infolist() if info.filename.endswith(".npy")]
        if len(members) > MAX_ARRAYS:
            raise TooLarge(f"The {what} file holds {len(members)} arrays; the limit is {MAX_ARRAYS}.")
        self.headers = {info.filename.removesuffix(".npy"): self._header(info) for info in members}

    def __enter__(self) -> NpzReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._zip.close()

    def rows(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield array[0], array[1] …, each a new array of shape[1:]."""
        import numpy as np

        header = self.headers[name]
        if header.fortran_order:
            yield from self.array(name)
            return
        shape = header.shape[1:]
        with self._zip.open(f"{name}.npy") as file:
            dtype = _read_header(file)[2]
            for _ in range(header.rows):
                data = self._read(file, dtype.itemsize * math.prod(shape), name)
                yield np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))

    def array(self, name: str) -> NDArray[Any]:
        """Read a whole array; for small ones such as labels."""
        import numpy as np

        with self._zip.open(f"{name}.npy") as file:
            shape, fortran_order, dtype = _read_header(file)
            data = self._read(file, dtype.itemsize * math.prod(shape), name)
        order = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran_order else "C")
        return order.astype(dtype.newbyteorder("="))

    def _header(self, info: zipfile.ZipInfo) -> ArrayHeader:
        name = info.filename.removesuffix(".npy")
        try:
            with self._zip.open(info) as file:
                shape, fortran_order, dtype = _read_header(file)
        except _UNREADABLE as exc:
            raise BadData(f"Array {name!r} of the {self._what} file has no readable header: {exc}.") from exc
        if dtype.hasobject:
            raise BadData(
                f"Array {name!r} of the {self._what} file holds pickled Python objects, which are never loaded.",
                remedy="Store plain numbers: array.astype('float32').",
            )
        promised = dtype.itemsize * math.prod(shape)
        if promised > max(info.compress_size, 1) * MAX_RATIO or min(shape, default=0) < 0:
            raise BadData(f"Array {name!r} of the {self._what} file says shape {shape}, more than the file holds.")
        if shape and promised > shape[0] * MAX_ROW_BYTES:
            raise TooLarge(f"One sample of array {name!r} is over {MAX_ROW_BYTES >> 30} GiB.")
        return ArrayHeader(dtype.name, shape, fortran_order and len(shape) > 1)

    def _read(self, file: IO[bytes], size: int, name: str) -> bytes:
        try:
            data = file.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as exc:
            raise BadData(f"Array {name!r} of the {self._what} file is damaged: {exc}.") from exc
        if len(data) != size:
            raise BadData(f"Array {name!r} of the {self._what} file is cut off.")
        return data


def row_digest(row: NDArray[Any]) -> str:
    """Identify one sample of an array by its values, dtype and shape left out."""
    return hashlib.sha256(row.tobytes()).hexdigest()[:16]


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    if version == (2, 0):
        return npy.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the .npy format is not read")


class NpzWriter:
    """Write arrays of known length row by row, several at once; `close` packs them into one .npz."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, tuple[Path, IO[bytes]]] = {}

    def append(self, name: str, row: NDArray[Any], *, count: int) -> None:
        """Add the next of `count` rows of an array, all of one shape and dtype."""
        import numpy as np
        from numpy.lib import format as npy

        if name not in self._parts:
            part = self._path.with_name(f"{self._path.name}.{len(self._parts)}.part")
            file = part.open("wb")
            shape = (count, *row.shape)
            npy.write_array_header_2_0(file, {"descr": row.dtype.str, "fortran_order": False, "shape": shape})
            self._parts[name] = (part, file)
        self._parts[name][1].write(np.ascontiguousarray(row).data)

    def close(self) -> None:
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_STORED) as archive:
            for name, (part, file) in self._parts.items():
                file.close()
                archive.write(part, f"{name}.npy")
                part.unlink()
