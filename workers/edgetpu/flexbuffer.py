"""Read the one flexbuffer that a compiled model holds: a map of strings and vectors of strings.

Source: FlatBuffers, "FlexBuffers" (schema-less variant of the format), types and widths of flexbuffers.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.edgetpu.flatbuffer import Reader, damaged

_STRING, _MAP, _VECTOR, _VECTOR_OF_STRINGS, _BLOB = 5, 9, 10, 15, 25
_LAYOUTS = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class Value:
    """A reference to a value: where its slot is, how wide the slot and what it points to are, in bytes."""

    reader: Reader
    at: int
    slot_bytes: int
    width_bytes: int
    kind: int

    @property
    def _target(self) -> int:
        return self.at - self._read(self.at, self.slot_bytes)

    @property
    def _length(self) -> int:
        length = self._read(self._target - self.width_bytes, self.width_bytes)
        self.reader.spend(length)
        return length

    def _read(self, at: int, width_bytes: int) -> int:
        return self.reader.scalar(_LAYOUTS[width_bytes], at)

    def text(self) -> bytes:
        """Return a string's or blob's bytes, b"" for any other kind."""
        return self.reader.slice(self._target, self._length) if self.kind in (_STRING, _BLOB) else b""

    def elements(self) -> tuple[Value, ...]:
        if self.kind not in (_VECTOR, _MAP, _VECTOR_OF_STRINGS):
            return ()
        start, length, width = self._target, self._length, self.width_bytes
        if self.kind == _VECTOR_OF_STRINGS:
            packed = [_STRING << 2] * length
        else:
            packed = list(self.reader.slice(start + length * width, length))
        return tuple(_value(self.reader, start + width * i, width, packed[i]) for i in range(length))

    def mapping(self) -> dict[str, Value]:
        """Return a map's values by key, {} for any other kind."""
        if self.kind != _MAP:
            return {}
        width, head = self.width_bytes, self._target - 3 * self.width_bytes
        keys_at, key_width = head - self._read(head, width), self._read(head + width, width)
        if key_width not in _LAYOUTS:
            raise damaged(f"a map's keys are {key_width} bytes wide")
        values = self.elements()
        return {self._key(keys_at + key_width * i, key_width): value for i, value in enumerate(values)}

    def _key(self, at: int, width_bytes: int) -> str:
        start = at - self._read(at, width_bytes)
        end = next((i for i in range(start, min(start + 64, self.reader.size)) if not self.reader.scalar("B", i)), -1)
        if end < 0:
            raise damaged(f"a map's key at byte {start} does not end")
        return self.reader.slice(start, end - start).decode(errors="replace")


def root(data: bytes) -> Value:
    """Return the value that a flexbuffer holds.

    Raises:
        CorruptModel: the bytes hold none.
    """
    reader = Reader(data)
    width = reader.scalar("B", len(data) - 1)
    if width not in _LAYOUTS:
        raise damaged(f"a flexbuffer's root is {width} bytes wide")
    return _value(reader, len(data) - 2 - width, width, reader.scalar("B", len(data) - 2))


def _value(reader: Reader, at: int, slot_bytes: int, packed: int) -> Value:
    return Value(reader, at, slot_bytes, 1 << (packed & 3), packed >> 2)
