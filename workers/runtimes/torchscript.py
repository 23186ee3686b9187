"""Run TorchScript modules on a builder, as the source's float reference.

Tested with torch 2.13.0. Source: PyTorch, torch.jit.
Limits: the file says neither dtype nor shape of a tensor, so these stay unknown; inputs are tensors and plain numbers;
nested outputs are flattened in pytree order and named output_0, output_1 …
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import Incompatible
from farm.domain.facts import Format, TensorSpec
from farm.domain.inputs import UNKNOWN_DTYPE
from workers.runtimes import Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".pt", ".pth", ".jit", ".torchscript", ".ts")
_NUMBERS = {"int": "int64", "float": "float64", "bool": "bool"}


def load_module(path: Path) -> Any:
    """Load a module on the CPU, in evaluation mode."""
    import torch

    with entry_file(path, SUFFIXES).open("rb") as file:
        return torch.jit.load(file, map_location="cpu").eval()


def describe_module(module: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Read the arguments of `forward` and what it returns; outputs stay empty when their number is open.

    Raises:
        Incompatible: an argument is neither tensor nor number.
    """
    arguments = [a for a in module.forward.schema.arguments[1:] if not a.has_default_value()]
    inputs = tuple(_input(argument.name, str(argument.type)) for argument in arguments)
    (returned,) = module.forward.schema.returns
    count = _count(str(returned.type))
    return inputs, tuple(TensorSpec(f"output_{index}", UNKNOWN_DTYPE, None) for index in range(count))


def _input(name: str, kind: str) -> TensorSpec:
    if kind == "Tensor":
        return TensorSpec(name, UNKNOWN_DTYPE, None)
    if kind in _NUMBERS:
        return TensorSpec(name, _NUMBERS[kind], ())
    raise Incompatible(
        f"Input {name!r} of forward() is a {kind}; only tensors and plain numbers can be fed.",
        remedy="Wrap the model in a module whose forward takes tensors only.",
    )


def _count(returned: str) -> int:
    """Count the tensors of a return type; 0 when lists or dictionaries leave it open."""
    if any(word in returned for word in ("List[", "Dict[", "Optional[", "Any")):
        return 0
    return returned.count("Tensor")


class TorchScriptSession:
    """A module, called with its arguments in order."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import torch

        torch.set_num_threads(threads)
        self._module = load_module(path)
        self.inputs, self.outputs = describe_module(self._module)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch
        from torch.utils import _pytree

        arguments = [self._argument(spec, feeds[spec.name]) for spec in self.inputs]
        with torch.no_grad():
            leaves = _pytree.tree_leaves(self._module(*arguments))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return {f"output_{index}": tensor.numpy() for index, tensor in enumerate(tensors)}

    @staticmethod
    def _argument(spec: TensorSpec, array: NDArray[Any]) -> Any:
        import torch

        return torch.from_numpy(array) if spec.dtype == UNKNOWN_DTYPE else array.item()


def refusals() -> tuple[type[Exception], ...]:
    import torch

    return torch.jit.Error, RuntimeError, ValueError, TypeError


RUNTIME = Runtime(
    name="torchscript",
    accepts=(Format.TORCHSCRIPT,),
    environment="builder",
    tools=("torch",),
    preload=("torch",),
    deployable=False,
    load=TorchScriptSession,
    refusals=refusals,
)
