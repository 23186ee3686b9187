"""Time the operators of a TFLite model by the profiler of LiteRT's C API: its wheel has it, its Python API does not.

Tested with ai-edge-litert 2.3.0 on x86-64. Sources: LiteRT, litert/c (litert_compiled_model.h, litert_opaque_options.h,
litert_profiler.h, litert_profiler_event.h); options are TOML texts under the names that LiteRT's own option files give
them (`runtime_options_string`, `xnnpack`). The layout of an event is that of this version: another one may end this
process, which measures nothing else, and then the report says so.
Limits: fixed shapes. The compiled model runs the same XNNPACK kernels as the interpreter whose latencies are told.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from farm.domain.errors import ToolchainError
from farm.domain.operators import ComputeUnit, OperatorTime

if TYPE_CHECKING:
    from workers.runtimes import Profiling

LIBRARY = "libLiteRt.so"
ON_CPU = 1
BYTES = 3
"""The element type of every buffer: it is lent as bytes, of as many as the model wants."""
ALIGNMENT = 64
OPERATOR, DELEGATED_OPERATOR = 1 << 1, 1 << 3
"""Kinds of event: an operator of the interpreter, and one inside a delegate that takes the operator's place."""

_Handle = ctypes.c_void_p
_FIRST = ctypes.c_size_t(0)
_keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda payload: None)
"""What LiteRT calls to free an option's text, which Python owns."""


class _Layout(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint32), ("dimensions", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8))


class _TensorType(ctypes.Structure):
    _fields_ = (("element", ctypes.c_int32), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", ctypes.c_int64 * 3),
        ("memory_after", ctypes.c_int64 * 3),
        ("node", ctypes.c_uint64),
        ("more", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


def timed_operators(path: Path, asked: Profiling) -> tuple[OperatorTime, ...]:
    """Run a model with its profiler on; the first call is left out.

    Raises:
        ToolchainError: the library is not there, or refuses a call; both are named.
    """
    model = _CompiledModel(path, asked.threads)
    model.fill(list(asked.feeds.values()))
    model.run()
    model.forget()
    for _ in range(asked.calls):
        model.run()
    return operators_of([(event.tag.decode(), event.elapsed_us) for event in model.events()], asked.calls)


def operators_of(events: Sequence[tuple[str, int]], calls: int) -> tuple[OperatorTime, ...]:
    """Take the median over the calls of each operator, in the order they ran.

    Args:
        events: name of the kernel and microseconds, call after call; each call runs the same operators.
        calls: how many there were.

    Raises:
        ToolchainError: the events are not those of so many equal calls.
    """
    each = len(events) // calls
    rounds = [events[start : start + each] for start in range(0, each * calls, max(each, 1))]
    kernels = [kernel for kernel, _ in rounds[0]] if rounds else []
    if not events or len(events) != each * calls or any([kernel for kernel, _ in one] != kernels for one in rounds):
        raise ToolchainError(
            f"LiteRT's profiler told of {len(events)} operators, which are not those of {calls} calls."
        )
    return tuple(
        OperatorTime(f"{kernel} #{at}", kernel, ComputeUnit.CPU, float(median(one[at][1] for one in rounds)))
        for at, kernel in enumerate(kernels)
    )


class _CompiledModel:
    """A model on the CPU with profiling enabled, its buffers, and what they rest on; lives as long as its process."""

    def __init__(self, path: Path, threads: int) -> None:
        self._library = _library()
        self._kept: list[Any] = []
        environment, self._model, options, self._compiled, self._profiler = (_Handle() for _ in range(5))
        self._call("CreateEnvironment", 0, None, ctypes.byref(environment))
        self._call("CreateModelFromFile", environment, str(path).encode(), ctypes.byref(self._model))
        self._call("CreateOptions", ctypes.byref(options))
        self._call("SetOptionsHardwareAccelerators", options, ON_CPU)
        self._tell(options, "runtime_options_string", "enable_profiling = true\n")
        self._tell(options, "xnnpack", f"num_threads = {threads}\n")
        self._call("CreateCompiledModel", environment, self._model, options, ctypes.byref(self._compiled))
        self._call("CompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")
        self._call("StartProfiler", self._profiler)

    def fill(self, arrays: Sequence[Any]) -> None:
        """Write the inputs in the file's order, as many bytes as each has room for."""
        import numpy as np

        for (_, memory), array in zip(self._inputs, arrays, strict=True):
            held = np.frombuffer(array.tobytes(), np.uint8)[: memory.nbytes]
            memory[: len(held)] = held

    def run(self) -> None:
        given, made = _handles(self._inputs), _handles(self._outputs)
        sizes = ctypes.c_size_t(len(self._inputs)), ctypes.c_size_t(len(self._outputs))
        self._call("RunCompiledModel", self._compiled, _FIRST, sizes[0], given, sizes[1], made)

    def forget(self) -> None:
        """Drop the events so far; a profiler that was reset has to be started again."""
        self._call("ResetProfiler", self._profiler)
        self._call("StartProfiler", self._profiler)

    def events(self) -> list[_Event]:
        """Give the operators' events so far, in the order they ended."""
        count = ctypes.c_int()
        self._call("GetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._kept.append(events)
        self._call("GetProfilerEvents", self._profiler, count, events)
        return [event for event in events if event.kind in (OPERATOR, DELEGATED_OPERATOR)]

    def _buffers(self, side: str) -> list[tuple[_Handle, Any]]:
        subgraph, count = _Handle(), ctypes.c_size_t()
        self._call("GetModelSubgraph", self._model, _FIRST, ctypes.byref(subgraph))
        self._call(f"GetNumSubgraph{side}s", subgraph, ctypes.byref(count))
        layouts = (_Layout * max(count.value, 1))()
        if side == "Output":
            self._call("GetCompiledModelOutputTensorLayouts", self._compiled, _FIRST, count, layouts, False)
        return [self._buffer(side, at, layouts[at]) for at in range(count.value)]

    def _buffer(self, side: str, at: int, layout: _Layout) -> tuple[_Handle, Any]:
        """Lend aligned memory of the size that the model wants, in the layout it tells."""
        import numpy as np

        place, needs, size, buffer = ctypes.c_size_t(at), _Handle(), ctypes.c_size_t(), _Handle()
        self._call(f"GetCompiledModel{side}BufferRequirements", self._compiled, _FIRST, place, ctypes.byref(needs))
        self._call("GetTensorBufferRequirementsBufferSize", needs, ctypes.byref(size))
        if side == "Input":
            wanted = ctypes.byref(layout)
            self._call("GetCompiledModelInputTensorLayout", self._compiled, _FIRST, place, wanted)
        room = np.zeros(size.value + 2 * ALIGNMENT, np.uint8)
        memory = room[(start := -room.ctypes.data % ALIGNMENT) : start + size.value]
        kind = _TensorType(BYTES, layout)
        self._kept += [room, kind]
        address = _Handle(memory.ctypes.data)
        self._call("CreateTensorBufferFromHostMemory", ctypes.byref(kind), address, size, None, ctypes.byref(buffer))
        return buffer, memory

    def _tell(self, options: _Handle, name: str, toml: str) -> None:
        """Attach one text of options under its name."""
        payload, opaque = ctypes.create_string_buffer(toml.encode()), _Handle()
        self._kept.append(payload)
        self._call("CreateOpaqueOptions", name.encode(), payload, _keep, ctypes.byref(opaque))
        self._call("AddOpaqueOptions", options, opaque)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"LiteRt{name}", None)
        if function is None:
            raise ToolchainError(f"{LIBRARY} has no function LiteRt{name}.", function=name)
        if status := function(*arguments):
            raise ToolchainError(f"LiteRt{name} of {LIBRARY} gave status {status}.", function=name, status=status)


def _library() -> ctypes.CDLL:
    package = importlib.util.find_spec("ai_edge_litert")
    folders = package.submodule_search_locations if package else None
    file = Path(next(iter(folders))) / LIBRARY if folders else None
    if file is None or not file.exists():
        raise ToolchainError(f"The wheel of LiteRT has no {LIBRARY} here.")
    return ctypes.CDLL(str(file))


def _handles(buffers: Sequence[tuple[_Handle, Any]]) -> Any:
    return (_Handle * len(buffers))(*(buffer for buffer, _ in buffers))
