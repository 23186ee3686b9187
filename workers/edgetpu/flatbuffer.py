"""Read flatbuffers whose bytes nobody has checked.

Every offset is tested against the file before it is followed, and the elements read in total are bounded by a few
times the file's size, so that vectors which refer to one another, or to the same bytes, cannot make a small file
expensive.
Source: FlatBuffers, internals ("FlatBuffer Binary Format").
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from farm.domain.errors import CorruptModel

Bytes = bytes | mmap.mmap

_OFFSET, _VECTOR_LENGTH, _VTABLE_HEAD, _SLOT = 4, 4, 4, 2
_READS = 4
"""How often all of a file may be read: rules look at the same small constants several times."""
RESAVE = "Convert the model again and check that the copy is complete."


def damaged(what: str) -> CorruptModel:
    return CorruptModel(f"The file is damaged: {what}.", remedy=RESAVE)


class Reader:
    """Bytes with a budget of elements that may still be read."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self.size = len(data)
        self._elements_left = _READS * self.size

    def scalar(self, layout: str, at: int) -> int:
        """Return one little-endian integer.

        Raises:
            CorruptModel: it lies outside the file.
        """
        if at < 0 or at + struct.calcsize(layout) > self.size:
            raise damaged(f"a value at byte {at} lies outside its {self.size} bytes")
        return int(struct.unpack_from(f"<{layout}", self.data, at)[0])

    def slice(self, at: int, size_bytes: int) -> bytes:
        if at < 0 or size_bytes < 0 or at + size_bytes > self.size:
            raise damaged(f"{size_bytes} bytes at byte {at} lie outside its {self.size} bytes")
        return bytes(self.data[at : at + size_bytes])

    def follow(self, at: int) -> int:
        return at + self.scalar("I", at)

    def spend(self, elements: int) -> None:
        self._elements_left -= elements
        if self._elements_left < 0:
            raise damaged("its vectors hold more elements than it has bytes")

    def root(self, identifier: bytes) -> Table:
        """Return the root table.

        Raises:
            CorruptModel: the identifier differs, or the root lies outside the file.
        """
        if self.slice(_OFFSET, len(identifier)) != identifier:
            raise CorruptModel(f"The file lacks the mark {identifier.decode('ascii')}.", remedy=RESAVE)
        return Table(self, self.follow(0))


@dataclass(frozen=True, slots=True)
class Table:
    """One table; a slot is a field's index in the schema."""

    reader: Reader
    at: int

    def integer(self, slot: int, layout: str, default: int = 0) -> int:
        found = self._field(slot)
        return default if found is None else self.reader.scalar(layout, found)

    def table(self, slot: int) -> Table | None:
        found = self._field(slot)
        return None if found is None else Table(self.reader, self.reader.follow(found))

    def tables(self, slot: int) -> tuple[Table, ...]:
        start, length = self._vector(slot, _OFFSET)
        return tuple(Table(self.reader, self.reader.follow(start + _OFFSET * index)) for index in range(length))

    def integers(self, slot: int) -> tuple[int, ...]:
        """Return a vector of int32."""
        start, length = self._vector(slot, 4)
        return struct.unpack(f"<{length}i", self.reader.slice(start, 4 * length))

    def integer_at(self, slot: int, layout: str, index: int) -> int:
        """Return one element of a vector of integers, 0 beyond its end."""
        start, length = self._vector(slot, struct.calcsize(layout))
        return self.reader.scalar(layout, start + struct.calcsize(layout) * index) if index < length else 0

    def length(self, slot: int) -> int:
        return self._vector(slot, 1)[1]

    def blob(self, slot: int) -> bytes:
        start, length = self._vector(slot, 1)
        self.reader.spend(length)
        return self.reader.slice(start, length)

    def blobs(self, slot: int) -> tuple[bytes, ...]:
        """Return a vector of strings as bytes."""
        start, length = self._vector(slot, _OFFSET)
        return tuple(self._string(self.reader.follow(start + _OFFSET * index)) for index in range(length))

    def text(self, slot: int) -> str:
        return self.blob(slot).decode(errors="replace")

    def _string(self, at: int) -> bytes:
        length = self.reader.scalar("I", at)
        self.reader.spend(length)
        return self.reader.slice(at + _VECTOR_LENGTH, length)

    def _vector(self, slot: int, element_bytes: int) -> tuple[int, int]:
        found = self._field(slot)
        if found is None:
            return 0, 0
        at = self.reader.follow(found)
        length = self.reader.scalar("I", at)
        if at + _VECTOR_LENGTH + length * element_bytes > self.reader.size:
            raise damaged(f"a vector of {length} elements at byte {at} lies outside its {self.reader.size} bytes")
        if element_bytes > 1:
            self.reader.spend(length)
        return at + _VECTOR_LENGTH, length

    def _field(self, slot: int) -> int | None:
        vtable = self.at - self.reader.scalar("i", self.at)
        size_bytes = self.reader.scalar("H", vtable)
        entry = _VTABLE_HEAD + _SLOT * slot
        if entry + _SLOT > size_bytes:
            return None
        offset = self.reader.scalar("H", vtable + entry)
        return self.at + offset if offset else None
