"""A TFLite file as the Edge TPU's rules look at it: operators, tensors, constants.

Source: TensorFlow Lite, schema.fbs. The constants below are slots of that schema's tables.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from farm.domain.facts import TensorSpec
from workers.edgetpu.builtin_operators import CUSTOM, name_of
from workers.edgetpu.flatbuffer import Bytes, Reader, Table, damaged

IDENTIFIER = b"TFL3"
ABSENT = -1
"""The index of an optional operand that is left out."""


class DataType(IntEnum):
    """Tensor element types by their code in the schema."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT32 = 2
    UINT8 = 3
    INT64 = 4
    STRING = 5
    BOOL = 6
    INT16 = 7
    COMPLEX64 = 8
    INT8 = 9
    FLOAT64 = 10


_INTEGER_LAYOUTS = {DataType.INT32: "i", DataType.INT64: "q", DataType.INT8: "b", DataType.UINT8: "B"}
_MAX_DIMENSIONS = 16
_QUANTIZATION, _SCALE, _ZERO_POINT = 4, 2, 3


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `is_computed` when the file does not hold its values: made by an operator, or an input, or state.

    `constant_bytes` is 0 also of a constant without elements, as the shape of a scalar is. `signature` is the shape
    with -1 for axes that the converter left open.
    """

    name: str
    data_type: int
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    constant_bytes: int
    is_variable: bool
    is_computed: bool
    table: Table

    @property
    def is_constant(self) -> bool:
        return not self.is_computed

    @property
    def type_name(self) -> str:
        """The element type as NumPy names it, or its code when the schema of this reader lacks it."""
        known = self.data_type in set(DataType)
        return DataType(self.data_type).name.lower() if known else f"type-{self.data_type}"

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; `type` is the builtin's name or the custom code, operands are indices of tensors or ABSENT."""

    index: int
    type: str
    version: int
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    custom_options: bytes

    @property
    def is_custom(self) -> bool:
        return self.code == CUSTOM

    def option(self, slot: int, layout: str = "b", default: int = 0) -> int:
        return default if self.options is None else self.options.integer(slot, layout, default)


@dataclass(frozen=True, slots=True)
class Model:
    """The main subgraph of a file; `subgraphs` counts all, `further` names the operators of the others in file order.

    An entry of `further` is (subgraph, operator type).
    """

    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    buffers: tuple[Table, ...]
    further: tuple[tuple[int, str], ...] = ()

    def operand(self, operator: Operator, position: int) -> Tensor | None:
        """Return an input by position, None when it is left out."""
        index = operator.inputs[position] if position < len(operator.inputs) else ABSENT
        return None if index == ABSENT else self.tensors[index]

    def inputs_of(self, operator: Operator) -> tuple[Tensor, ...]:
        return tuple(self.tensors[index] for index in operator.inputs if index != ABSENT)

    def outputs_of(self, operator: Operator) -> tuple[Tensor, ...]:
        return tuple(self.tensors[index] for index in operator.outputs if index != ABSENT)

    def constant_values(self, tensor: Tensor) -> tuple[int, ...] | None:
        """Return the integers of a small constant, None when it is not one."""
        layout = _INTEGER_LAYOUTS.get(DataType(tensor.data_type)) if tensor.data_type in set(DataType) else None
        if layout is None or not tensor.is_constant:
            return None
        data = constant_of(self, tensor)
        count = len(data) // struct.calcsize(layout)
        return struct.unpack(f"<{count}{layout}", data[: count * struct.calcsize(layout)])

    def is_zero(self, tensor: Tensor) -> bool:
        """Whether every value of an 8-bit constant is its zero point."""
        quantization = tensor.table.table(_QUANTIZATION)
        stored = quantization.integer_at(_ZERO_POINT, "q", 0) if quantization else 0
        return set(constant_of(self, tensor)) <= {stored & 0xFF}


def constant_of(model: Model, tensor: Tensor) -> bytes:
    """Return a constant's bytes, stored inside the flatbuffer or behind it."""
    buffer = model.buffers[tensor.table.integer(2, "I")]
    if buffer.length(0):
        return buffer.blob(0)
    return buffer.reader.slice(buffer.integer(1, "Q"), buffer.integer(2, "Q"))


def declared_specs(model: Model, indices: Iterable[int]) -> tuple[TensorSpec, ...]:
    """Return tensors as the file declares them; an open axis is "?", no size at all is an unknown shape."""
    return tuple(_spec(model.tensors[index]) for index in indices if index != ABSENT)


def _spec(tensor: Tensor) -> TensorSpec:
    shape = tuple(axis if axis >= 0 else "?" for axis in tensor.signature or tensor.shape)
    quantization = tensor.table.table(_QUANTIZATION)
    if quantization is None or quantization.length(_SCALE) != 1 or tensor.data_type == DataType.FLOAT32:
        return TensorSpec(tensor.name, tensor.type_name, shape or None)
    (scale,) = struct.unpack("<f", struct.pack("<I", quantization.integer_at(_SCALE, "I", 0)))
    return TensorSpec(tensor.name, tensor.type_name, shape or None, scale, quantization.integer_at(_ZERO_POINT, "q", 0))


def read_model(data: Bytes) -> Model:
    """Read the main subgraph of a TFLite file.

    Raises:
        CorruptModel: the bytes are no TFLite file, or an offset or index of them leads outside.
    """
    root = Reader(data).root(IDENTIFIER)
    graphs, buffers = root.tables(2), root.tables(4)
    if not graphs:
        raise damaged("it has no subgraph")
    sizes = tuple(_stored_bytes(buffer) for buffer in buffers)
    codes = tuple(_code(table) for table in root.tables(1))
    operators = tuple(_operator(index, table, codes) for index, table in enumerate(graphs[0].tables(3)))
    inputs, outputs = graphs[0].integers(1), graphs[0].integers(2)
    computed = {*inputs, *(index for operator in operators for index in operator.outputs)}
    tensors = tuple(_tensor(table, sizes, at in computed) for at, table in enumerate(graphs[0].tables(0)))
    used = [index for operator in operators for index in (*operator.inputs, *operator.outputs)]
    if any(not ABSENT <= index < len(tensors) for index in (*inputs, *outputs, *used)):
        raise damaged(f"an operator refers to a tensor that is not among its {len(tensors)}")
    further = tuple(
        (number, _operator(index, table, codes).type)
        for number, graph in enumerate(graphs[1:], 1)
        for index, table in enumerate(graph.tables(3))
    )
    return Model(operators, tensors, inputs, outputs, len(graphs), buffers, further)


def _stored_bytes(buffer: Table) -> int:
    inside = buffer.length(0)
    if inside:
        return inside
    offset, size_bytes = buffer.integer(1, "Q"), buffer.integer(2, "Q")
    if offset + size_bytes > buffer.reader.size:
        raise damaged(f"a buffer of {size_bytes} bytes at byte {offset} lies outside its {buffer.reader.size} bytes")
    return size_bytes if offset > 1 else 0


def _tensor(table: Table, sizes: tuple[int, ...], computed: bool) -> Tensor:
    shape, buffer = table.integers(0), table.integer(2, "I")
    if buffer >= len(sizes):
        raise damaged(f"a tensor refers to buffer {buffer} of {len(sizes)}")
    if len(shape) > _MAX_DIMENSIONS:
        raise damaged(f"a tensor has {len(shape)} dimensions")
    signature = table.integers(7)
    is_variable = bool(table.integer(5, "B"))
    return Tensor(
        name=table.text(3),
        data_type=table.integer(1, "b"),
        shape=shape,
        signature=signature,
        constant_bytes=sizes[buffer],
        is_variable=is_variable,
        is_computed=not sizes[buffer] and (computed or is_variable or math.prod(shape) != 0),
        table=table,
    )


def _code(table: Table) -> tuple[int, str, int]:
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    return code, table.text(1) if code == CUSTOM else name_of(code), table.integer(2, "i", 1)


def _operator(index: int, table: Table, codes: tuple[tuple[int, str, int], ...]) -> Operator:
    position = table.integer(0, "I")
    if position >= len(codes):
        raise damaged(f"operator {index} refers to operator code {position} of {len(codes)}")
    code, name, version = codes[position]
    return Operator(
        index=index,
        type=name,
        version=version,
        code=code,
        inputs=table.integers(1),
        outputs=table.integers(2),
        options=table.table(4),
        custom_options=table.blob(5),
    )
