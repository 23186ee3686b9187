"""Run ExecuTorch programs (.pte) with the portable kernels and the XNNPACK delegate, on hosts and on builders.

Tested with executorch 1.5.1 on torch 2.13.0. Source: ExecuTorch Runtime Python API reference, `MethodMeta`, and the
package's own extension/pybindings/pybindings.pyi.
The compiled bindings are used themselves: the documented `executorch.runtime` imports the whole exporter with them,
which takes 5 s more in each measuring process. Torch, which the bindings are linked with, stays in the process and in
its memory.
Limits: the method `forward`; tensors only. A file holds no names, so inputs are input_0, input_1 … and outputs
output_0, output_1 … in their order; shapes are the largest that memory was planned for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format, TensorSpec
from workers.runtimes import Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".pte",)
METHOD = "forward"
_DTYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}
"""NumPy names by ScalarType code. Source: ExecuTorch, exir/_serialize/scalar_type.fbs."""


class ExecuTorchSession:
    """One loaded method; all sessions of a process share one pool of threads, of the size the last one asked for."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import torch  # noqa: F401 - the bindings are linked with its libraries
        from executorch.extension.pybindings import _C as bindings

        if bindings._threadpool_get_thread_count() != threads:
            bindings._unsafe_reset_threadpool(threads)
        self._program = bindings._load_program(str(entry_file(path, SUFFIXES)))
        self._method = self._program.load_method(METHOD)
        meta = self._method.method_meta()
        inputs = (meta.input_tensor_meta(at) for at in range(meta.num_inputs()))
        outputs = (meta.output_tensor_meta(at) for at in range(meta.num_outputs()))
        self.inputs = tuple(_spec(f"input_{at}", tensor) for at, tensor in enumerate(inputs))
        self.outputs = tuple(_spec(f"output_{at}", tensor) for at, tensor in enumerate(outputs))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch

        results = self._method.call([torch.from_numpy(feeds[spec.name]) for spec in self.inputs])
        return {spec.name: tensor.numpy() for spec, tensor in zip(self.outputs, results, strict=True)}


def _spec(name: str, tensor: Any) -> TensorSpec:
    """Read a TensorInfo.

    Raises:
        ValueError: an element type that NumPy does not have.
    """
    code = int(tensor.dtype())
    if code not in _DTYPES:
        raise ValueError(f"{name} has elements of ScalarType {code}, which NumPy lacks")
    return TensorSpec(name, _DTYPES[code], tuple(int(size) for size in tensor.sizes()))


RUNTIME = Runtime(
    name="executorch",
    accepts=(Format.EXECUTORCH,),
    environment="executorch",
    tools=("executorch", "torch"),
    preload=("numpy", "torch", "executorch.extension.pybindings._C"),
    deployable=True,
    load=ExecuTorchSession,
    builds_in="executorch",
)
