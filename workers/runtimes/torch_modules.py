"""Eager torch modules with named inputs and outputs: what runtimes of modules, and their exports, stand on.

Tested with torch 2.13.0. Source: PyTorch, torch.nn.Module and torch.export (input names are those of `forward`).
"""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from farm.domain.facts import TensorSpec

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Call = Callable[..., Any]


class ModuleSession:
    """A module in evaluation mode, called with its inputs in order, without gradients.

    `outputs` stays empty when only a run tells them; `run` names a mapping's tensors by their keys, others
    output_0, output_1 …
    """

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...] = (),
        *,
        call: Call | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.inputs = inputs
        self.outputs = outputs
        self.call: Call = call or module

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import torch

        arguments = [torch.from_numpy(feeds[spec.name]) for spec in self.inputs]
        with torch.no_grad():
            found = named_tensors(self.call(*arguments))
        return {name: tensor.detach().cpu().numpy() for name, tensor in found.items()}

    def flat(self) -> torch.nn.Module:
        """Return a module for exporters: one parameter per input, named alike; a tuple of tensors comes back."""
        return flat_module(self.module, self.call, tuple(spec.name for spec in self.inputs))

    def empty(self) -> None:
        """Free the weights, whoever still holds the module; it can't run any more."""
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            tensor.data = tensor.data.new_empty(0)


def named_tensors(result: Any) -> dict[str, torch.Tensor]:
    """Name every tensor of what a module returned, in its order; what is no tensor is left out."""
    import torch
    from torch.utils import _pytree

    if isinstance(result, Mapping) and all(isinstance(value, torch.Tensor) for value in result.values()):
        return {str(key): value for key, value in result.items()}
    leaves = [leaf for leaf in _pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    return {f"output_{index}": leaf for index, leaf in enumerate(leaves)}


def flat_module(module: torch.nn.Module, call: Call, names: tuple[str, ...]) -> torch.nn.Module:
    import torch

    def forward(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(named_tensors(call(*arguments)).values())

    vars(forward)["__signature__"] = _signature(names)
    flat = torch.nn.Module()
    flat.module = module
    flat.forward = forward
    return flat.eval()


def _signature(names: tuple[str, ...]) -> inspect.Signature:
    """Give exporters the names to call inputs by, as far as Python allows them."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name)
        usable = plain.isidentifier() and not keyword.iskeyword(plain) and plain not in found
        found.append(plain if usable else f"input_{len(found)}")
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind) for name in found])
