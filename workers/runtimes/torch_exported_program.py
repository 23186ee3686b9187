"""Run exported PyTorch programs (.pt2) on a builder, as the source's float reference.

Tested with torch 2.13.0. Source: PyTorch, torch.export and its ExportGraphSignature.
Limits: nested inputs and outputs are flattened in pytree order; the file names outputs by their graph nodes.
The environment must hold TORCH_FORCE_WEIGHTS_ONLY_LOAD=1: loading would otherwise fall back to running pickles.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import EnvironmentMissing
from farm.domain.facts import Axis, Format, TensorSpec
from workers.runtimes import Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".pt2",)
GUARD = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def load_program(path: Path) -> Any:
    """Load an ExportedProgram without running pickles.

    Raises:
        EnvironmentMissing: the guard is not set.
    """
    if os.environ.get(GUARD) != "1":
        raise EnvironmentMissing(f"{GUARD}=1 must be set before a .pt2 is opened.")
    import torch

    with entry_file(path, SUFFIXES).open("rb") as file:
        return torch.export.load(file)


def describe_program(program: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read tensor inputs and outputs from the graph; an open axis has its symbol's name."""
    nodes = {node.name: node for node in program.graph_module.graph.nodes}
    signature = program.graph_signature
    inputs = tuple(_spec(name, nodes[name]) for name in signature.user_inputs if isinstance(name, str))
    outputs = tuple(_spec(name, nodes[name]) for name in signature.user_outputs if isinstance(name, str))
    return inputs, _unique(outputs)


def _spec(name: str, node: Any) -> TensorSpec:
    value = node.meta["val"]
    if not hasattr(value, "shape"):
        return TensorSpec(name, {bool: "bool", int: "int64"}.get(type(value), "float64"), ())
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), tuple(_axis(size) for size in value.shape))


def _axis(size: Any) -> Axis:
    """Turn a SymInt into its symbol; one that the program fixed is a size."""
    text = str(size)
    return int(text) if text.isdecimal() else text


def _unique(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """Give a tensor that is returned twice a second name."""
    names = [spec.name for spec in specs]
    return tuple(
        spec if spec.name not in names[:at] else TensorSpec(f"{spec.name}_{at}", spec.dtype, spec.shape)
        for at, spec in enumerate(specs)
    )


class ExportedProgramSession:
    """The program as a module, called with its flattened inputs."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import torch

        torch.set_num_threads(threads)
        program = load_program(path)
        self.inputs, self.outputs = describe_program(program)
        self._arguments = program.graph_signature.user_inputs
        self._returned = [isinstance(name, str) for name in program.graph_signature.user_outputs]
        self._in_spec = program.call_spec.in_spec
        self._module = program.module()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch
        from torch.utils import _pytree

        flat = [torch.from_numpy(feeds[name]) if name in feeds else name for name in self._arguments]
        args, kwargs = _pytree.tree_unflatten(flat, self._in_spec)
        with torch.no_grad():
            results = _pytree.tree_leaves(self._module(*args, **kwargs))
        tensors = [result for result, kept in zip(results, self._returned, strict=True) if kept]
        return {spec.name: torch.as_tensor(t).numpy() for spec, t in zip(self.outputs, tensors, strict=True)}


def refusals() -> tuple[type[Exception], ...]:
    return RuntimeError, ValueError, TypeError, AssertionError


RUNTIME = Runtime(
    name="torch-exported-program",
    accepts=(Format.TORCH_EXPORTED_PROGRAM,),
    environment="builder",
    tools=("torch",),
    preload=("torch",),
    deployable=False,
    load=ExportedProgramSession,
    refusals=refusals,
)
