"""Write small TFLite files with the standard library: operators and tensors as a test states them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.edgetpu.builtin_operators import CUSTOM, NAMES
from workers.edgetpu.model import DataType

INT8, UINT8, INT32, FLOAT32 = DataType.INT8, DataType.UINT8, DataType.INT32, DataType.FLOAT32


@dataclass(frozen=True)
class Tensor:
    """`constant` gives its stored values, as int32 for index tensors and as bytes otherwise."""

    shape: tuple[int, ...]
    type: DataType = INT8
    constant: Sequence[int] | None = None
    signature: tuple[int, ...] = ()


@dataclass(frozen=True)
class Op:
    """`options` by slot, each with its struct layout; tensors by index."""

    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int = 1
    options: Mapping[int, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Table:
    """Slots: ("i", 3) is a scalar, anything else a referenced object."""

    slots: Mapping[int, object]


def index(*values: int) -> Tensor:
    return Tensor((len(values),), INT32, values)


def weights(*shape: int) -> Tensor:
    size = 1
    for axis in shape:
        size *= axis
    return Tensor(shape, INT8, bytes(size))


def bias(channels: int) -> Tensor:
    return Tensor((channels,), INT32, (1,) * channels)


def tflite(
    tensors: Sequence[Tensor],
    operators: Sequence[Op],
    *,
    outputs: Sequence[int] | None = None,
    branches: Sequence[Op] = (),
) -> bytes:
    """Write a model whose input is tensor 0 and whose outputs are those of the last operator.

    Each of `branches` is a further subgraph of one operator, over the same tensors.
    """
    buffers = [_Table({}), *map(_buffer, tensors)]

    def graph(held: Sequence[Op], first: int) -> _Table:
        return _Table(
            {
                0: [_tensor(each, number + 1) for number, each in enumerate(tensors)],
                1: _ints((0,)),
                2: _ints(held[-1].outputs if outputs is None else outputs),
                3: [_operator(each, first + number) for number, each in enumerate(held)],
            }
        )

    graphs = [graph(operators, 0), *(graph([each], len(operators) + at) for at, each in enumerate(branches))]
    codes = [_code(each) for each in (*operators, *branches)]
    root = _Table({0: ("I", 3), 1: codes, 2: graphs, 4: buffers})
    out = bytearray(8)
    out[4:8] = b"TFL3"
    struct.pack_into("<I", out, 0, _write(out, root))
    return bytes(out)


def _buffer(tensor: Tensor) -> _Table:
    values = tensor.constant
    if values is None:
        return _Table({})
    return _Table({0: values if isinstance(values, bytes) else struct.pack(f"<{len(values)}i", *values)})


def _tensor(tensor: Tensor, buffer: int) -> _Table:
    slots = {0: _ints(tensor.shape), 1: ("b", tensor.type), 2: ("I", buffer), 3: b"t%d" % (buffer - 1)}
    return _Table(slots | ({7: _ints(tensor.signature)} if tensor.signature else {}))


def _operator(operator: Op, code: int) -> _Table:
    options = {4: _Table(dict(operator.options))} if operator.options else {}
    return _Table({0: ("I", code), 1: _ints(operator.inputs), 2: _ints(operator.outputs), **options})


def _code(operator: Op) -> _Table:
    builtin = NAMES.index(operator.type) if operator.type in NAMES else CUSTOM
    custom = {1: operator.type.encode()} if builtin == CUSTOM else {}
    return _Table({0: ("b", min(builtin, 127)), 2: ("i", operator.version), 3: ("i", builtin), **custom})


@dataclass(frozen=True)
class _Ints:
    values: tuple[int, ...]


def _ints(values: Sequence[int]) -> _Ints:
    return _Ints(tuple(values))


def _write(out: bytearray, value: object) -> int:
    """Append an object and what it refers to; return where it starts."""
    out.extend(bytes(-len(out) % 8))
    at = len(out)
    if isinstance(value, bytes):
        out += struct.pack("<I", len(value)) + value + b"\0"
    elif isinstance(value, _Ints):
        out += struct.pack(f"<I{len(value.values)}i", len(value.values), *value.values)
    elif isinstance(value, list):
        out += struct.pack("<I", len(value)) + bytes(4 * len(value))
        for number, each in enumerate(value):
            _refer(out, at + 4 + 4 * number, each)
    else:
        assert isinstance(value, _Table)
        return _write_table(out, value)
    return at


def _write_table(out: bytearray, table: _Table) -> int:
    """Give every slot 8 bytes, behind the vtable's offset."""
    count = max(table.slots, default=-1) + 1
    offsets = [8 + 8 * slot if slot in table.slots else 0 for slot in range(count)]
    vtable = len(out)
    out += struct.pack(f"<{2 + count}H", 4 + 2 * count, 8 + 8 * count, *offsets)
    out.extend(bytes(-len(out) % 8))
    at = len(out)
    out += struct.pack("<i", at - vtable) + bytes(4 + 8 * count)
    for slot, value in table.slots.items():
        place = at + 8 + 8 * slot
        if isinstance(value, tuple):
            struct.pack_into(f"<{value[0]}", out, place, value[1])
        else:
            _refer(out, place, value)
    return at


def _refer(out: bytearray, place: int, value: object) -> None:
    target = _write(out, value)
    struct.pack_into("<I", out, place, target - place)
