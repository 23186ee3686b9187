"""Torch graphs that a model left in training mode was written to: what drops at random, and what follows the batch.

Source: the schemas of torch 2.13.0 (`torch._C._jit_get_schemas_for_operator`). An operator in place (`dropout_`) has
the arguments of the one that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadRequest

if TYPE_CHECKING:
    import torch

_DROPOUTS = {
    "dropout": 2,
    "native_dropout": 2,
    "feature_dropout": 2,
    "alpha_dropout": 2,
    "feature_alpha_dropout": 2,
    "lstm": 6,
    "gru": 6,
    "rnn_tanh": 6,
    "rnn_relu": 6,
}
"""Where the `train` flag stands; the rate is the argument before it."""
_NORMS = {
    "batch_norm": 5,
    "native_batch_norm": 5,
    "cudnn_batch_norm": 5,
    "_batch_norm_impl_index": 5,
    "_native_batch_norm_legit": 5,
    "_native_batch_norm_legit_functional": 5,
    "instance_norm": 5,
}
_RUNNING_MEAN = 3
_FLAGS = {**_DROPOUTS, **_NORMS, "rrelu": 3, "rrelu_with_noise": 4, "rrelu_with_noise_functional": 4}
_ALWAYS = frozenset({"_batch_norm_with_update", "_batch_norm_with_update_functional"})


def is_training(operator: str, arguments: Sequence[object]) -> bool:
    """Tell whether a call is one of training mode.

    A norm that keeps no running mean follows the batch in evaluation too, and a rate of 0 drops nothing.

    Args:
        operator: its name in torch's schema, such as aten::dropout_.
        arguments: constants as themselves; what is computed as anything else that is no constant.
    """
    name = operator.removeprefix("aten::").removesuffix("_")
    if name in _ALWAYS:
        return True
    at = _FLAGS.get(name, len(arguments))
    if at >= len(arguments) or arguments[at] is not True:
        return False
    if name in _NORMS:
        return arguments[_RUNNING_MEAN] is not None
    return name not in _DROPOUTS or arguments[at - 1] != 0


def refuse_training_program(program: torch.export.ExportedProgram) -> None:
    """Raise BadRequest where an exported program has an operator in training mode, also in a body."""
    import torch

    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            schema = getattr(node.target, "_schema", None)
            if schema is not None and is_training(schema.name, node.args):
                raise BadRequest(
                    f"The program was exported in training mode: {node.target} is active.",
                    remedy="Call model.eval() before torch.export.export.",
                    operator=str(node.target),
                )


def refuse_training_module(module: torch.jit.ScriptModule) -> None:
    """Raise BadRequest where a trace froze an operator in training mode; a script follows eval()."""
    for node in script_nodes(module.inlined_graph):
        if is_training(node.kind(), [_argument(value) for value in node.inputs()]):
            raise BadRequest(
                f"The TorchScript was traced in training mode: {node.kind()} is active.",
                remedy="Call model.eval() before torch.jit.trace.",
                operator=node.kind(),
            )


def script_nodes(block: Any) -> Iterator[Any]:
    """Go through the nodes of a TorchScript graph, also those in bodies."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from script_nodes(inner)


def _argument(value: Any) -> object:
    """Return a constant, or the value itself: `toIValue` says None for both None and what is computed."""
    return value.toIValue() if value.node().kind() == "prim::Constant" else value
