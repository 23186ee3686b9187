"""Run OpenVINO IR (model.xml with model.bin beside it) on the CPU plugin, on hosts and on builders.

Tested with openvino 2026.4.1. Source: OpenVINO documentation, CPU device and its properties.
One stream and no performance hint, so that one call uses all the threads it is given and the plugin chooses nothing
by itself. Inference precision is float32: on CPUs with bfloat16, AMX or ARM's float16 the plugin would otherwise
round float models without a word. Threads are not pinned by the plugin, since the host pins the whole process.
Limits: tensors only; strings and sub-byte types are described as unknown and cannot be fed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Axis, Format, TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE
from farm.domain.operators import ComputeUnit, OperatorProfile, OperatorTime
from workers.runtimes import Profiling, Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    import openvino
    from numpy.typing import NDArray

SUFFIXES = (".xml",)
DEVICE = "CPU"


class OpenVinoSession:
    """One compiled model with one inference request."""

    def __init__(self, path: Path, *, threads: int = 1, counts: bool = False) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(entry_file(path, SUFFIXES))
        told = plugin_configuration(threads) | ({"PERF_COUNT": True} if counts else {})
        self._compiled = core.compile_model(model, DEVICE, told)
        self._request = self._compiled.create_infer_request()
        self.inputs = tuple(_spec(port, name) for port, name in named_ports(model.inputs))
        self.outputs = tuple(_spec(port, name) for port, name in named_ports(model.outputs))
        self._index = {spec.name: at for at, spec in enumerate(self.inputs)}

    @property
    def threads(self) -> int:
        """Say how many threads the plugin took."""
        return int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for name, array in feeds.items():
            self._request.set_input_tensor(self._index[name], _tensor(array))
        self._request.infer()
        return {spec.name: self._request.get_output_tensor(at).data.copy() for at, spec in enumerate(self.outputs)}

    def counted(self) -> Sequence[Any]:
        """Give the last call's ProfilingInfo of every node, in the order of execution."""
        counts: Sequence[Any] = self._request.profiling_info
        return counts


def profile(path: Path, asked: Profiling) -> OperatorProfile:
    """Time the nodes of the compiled graph by the plugin's performance counters; the first call is left out.

    Source: OpenVINO API, `ov::enable_profiling` (PERF_COUNT) and `InferRequest.profiling_info`.
    """
    session = OpenVinoSession(path, threads=asked.threads, counts=True)
    taken: dict[str, list[Any]] = {}
    for call in range(asked.calls + 1):
        session.run(asked.feeds)
        for node in session.counted() if call else ():
            if node.status == type(node).Status.EXECUTED:
                taken.setdefault(node.node_name, []).append(node)
    return OperatorProfile(
        tuple(
            OperatorTime(
                name, nodes[0].node_type, ComputeUnit.CPU, median(n.real_time.total_seconds() * 1e6 for n in nodes)
            )
            for name, nodes in taken.items()
        )
    )


def _tensor(array: NDArray[Any]) -> openvino.Tensor:
    """Lend the array to the plugin where its memory can be lent, else copy it."""
    import openvino

    return openvino.Tensor(array, shared_memory=array.flags.c_contiguous and array.flags.writeable)


def plugin_configuration(threads: int) -> dict[str, Any]:
    return {
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }


def named_ports(ports: Any) -> list[tuple[Any, str]]:
    """Pair inputs or outputs with one name each, the same at every load.

    A tensor may have several names, in no order: its node's own is taken where that is one of them, else the first by
    the alphabet. Tensors without a name, or with one that another has too, are called tensor_0, tensor_1 … by place.
    """
    names = [_name(port) for port in ports]
    return [
        (port, name if name and names.count(name) == 1 else f"tensor_{at}")
        for at, (port, name) in enumerate(zip(ports, names, strict=True))
    ]


def _name(port: Any) -> str | None:
    own = port.node.friendly_name
    return own if own in port.names else min(port.names, default=None)


def _spec(port: Any, name: str) -> TensorSpec:
    """Read a port: an axis without one size is open."""
    import numpy as np

    try:
        dtype = np.dtype(port.element_type.to_dtype()).name
    except (RuntimeError, TypeError):
        dtype = UNKNOWN_DTYPE
    if port.partial_shape.rank.is_dynamic:
        return TensorSpec(name, dtype, None)
    shape: tuple[Axis, ...] = tuple(axis.get_length() if axis.is_static else "?" for axis in port.partial_shape)
    return TensorSpec(name, dtype, shape)


def refusals() -> tuple[type[Exception], ...]:
    """Return what the library raises; its frontends' classes derive from Exception itself."""
    from openvino import frontend

    kinds = [kind for kind in vars(frontend).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*kinds, RuntimeError, ValueError, TypeError)


RUNTIME = Runtime(
    name="openvino",
    accepts=(Format.OPENVINO_IR,),
    environment="openvino",
    tools=("openvino",),
    preload=("numpy", "openvino"),
    deployable=True,
    load=OpenVinoSession,
    refusals=refusals,
    profile=profile,
)
