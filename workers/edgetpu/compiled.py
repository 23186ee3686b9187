"""Read what the Edge TPU compiler made: a TFLite file with packages for the device inside.

Source: google-coral/libedgetpu, tflite/custom_op_data.cc (the map's keys) and executable/executable.fbs (Package,
MultiExecutable, Executable).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from farm.domain.errors import CorruptModel
from workers.edgetpu import flexbuffer
from workers.edgetpu.flatbuffer import Bytes, Reader, Table
from workers.edgetpu.model import Operator, read_model

EDGE_TPU_OPERATOR = "edgetpu-custom-op"
IDENTIFIER = b"DWN1"
_FIRST_PACKAGE, _FURTHER_PACKAGES = "4", "7"
_STAND_ALONE, _PARAMETER_CACHING, _EXECUTION_ONLY = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Executable:
    """One program of a package; type 0 is stand-alone, 1 caches parameters, 2 runs with cached ones."""

    type: int
    parameter_bytes: int
    parameter_caching_token: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiled model holds.

    `cached_bytes` are parameters that stay on the device between inferences, `streamed_bytes` are sent for each.
    `cpu_operators` names (index in this file, type) of what runs on the host.
    """

    min_runtime_version: int
    cached_bytes: int
    streamed_bytes: int
    cpu_operators: tuple[tuple[int, str], ...]
    edge_tpu_subgraphs: int
    executables: tuple[Executable, ...]

    @property
    def caching_tokens(self) -> frozenset[int]:
        """Name what its cached parameters are known by on a device; other tokens' parameters are evicted for them."""
        return frozenset(each.parameter_caching_token for each in self.executables if each.type == _PARAMETER_CACHING)


def read_compiled(data: Bytes) -> Compiled:
    """Read a model compiled for the Edge TPU; one without any Edge TPU subgraph has runtime version 0.

    Raises:
        CorruptModel: the file, or a package inside, cannot be read.
    """
    operators = read_model(data).operators
    packages = [package for operator in operators if _is_compiled(operator) for package in _packages(operator)]
    executables = tuple(executable for package in packages for executable in _executables(package))
    return Compiled(
        min_runtime_version=max((package.integer(0, "i") for package in packages), default=0),
        cached_bytes=sum(each.parameter_bytes for each in executables if each.type == _PARAMETER_CACHING),
        streamed_bytes=sum(each.parameter_bytes for each in executables if each.type != _PARAMETER_CACHING),
        cpu_operators=tuple((each.index, each.type) for each in operators if not _is_compiled(each)),
        edge_tpu_subgraphs=sum(map(_is_compiled, operators)),
        executables=executables,
    )


def _is_compiled(operator: Operator) -> bool:
    return operator.is_custom and operator.type == EDGE_TPU_OPERATOR


def _packages(operator: Operator) -> Iterator[Table]:
    entries = flexbuffer.root(operator.custom_options).mapping()
    if _FIRST_PACKAGE not in entries:
        raise CorruptModel(f"Operator {operator.index} is marked as compiled for the Edge TPU, but holds no package.")
    yield Reader(entries[_FIRST_PACKAGE].text()).root(IDENTIFIER)
    if _FURTHER_PACKAGES in entries:
        for each in entries[_FURTHER_PACKAGES].elements():
            yield Reader(each.text()).root(IDENTIFIER)


def _executables(package: Table) -> Iterator[Executable]:
    bundle = package.blob(1)
    reader = Reader(bundle)
    for data in Table(reader, reader.follow(0)).blobs(0):
        inner = Reader(data)
        table = Table(inner, inner.follow(0))
        yield Executable(table.integer(13, "h"), table.length(6), table.integer(14, "Q"))
