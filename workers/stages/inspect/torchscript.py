"""Inspect a TorchScript module (.pt, .jit), scripted or traced.

Tested with torch 2.13.0. Source: PyTorch, torch.jit.
The file says neither dtype nor shape of its inputs; the submitter adds them with --input.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import BadRequest, CorruptModel, CustomOperator, UnsafeModel
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file, tree_size_bytes
from workers.runtimes.torchscript import SUFFIXES, describe_module, load_module
from workers.stages.inspect.reading import DAMAGE
from workers.stages.inspect.torch_archive import open_archive
from workers.stages.wording import plain

_FILE_ACCESS = re.compile(rb"(?:torch\.|aten\.|aten::)(from_file|save)\(")
_UNKNOWN = re.compile(r"Unknown builtin op: ([\w:.]+)|[Uu]nknown type name '([^']+)'")
_TRAINING_INPUT = {"aten::dropout": 2, "aten::batch_norm": 5, "aten::feature_dropout": 2}
"""Where an operator's `train` flag stands among its inputs."""


@stage(
    name="inspect-torchscript",
    version="1",
    kind=Kind.INSPECT,
    source=Format.TORCHSCRIPT,
    environment="builder",
    tools=("torch",),
    preload=("torch",),
    timeout_s=120.0,
)
def run(given: StageInput) -> StageOutput:
    """Scan the module's code for file access, load it without calling it, and read its graph.

    Returns: facts, the JSON of ModelFacts; dtype and shape of tensors are unknown, `extra` has the return type.
    Raises: UnsafeModel, CorruptModel, CustomOperator, UnknownFormat; BadRequest for a module traced in training mode.
    """
    path = given.files["model"]
    entry = entry_file(path, SUFFIXES)
    _refuse_file_access(open_archive(entry, Format.TORCHSCRIPT).read("code/", ".py"), entry)
    module = _load(path, entry)
    nodes = list(_nodes(module.inlined_graph))
    _refuse_training(nodes)
    inputs, outputs = describe_module(module)
    facts = ModelFacts(
        format=Format.TORCHSCRIPT,
        inputs=inputs,
        outputs=outputs,
        operators=dict(Counter(n.kind() for n in nodes if not n.kind().startswith("prim::"))),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        size_bytes=tree_size_bytes(path),
        producer="torch.jit",
        extra={"returns": plain(str(module.forward.schema.returns[0].type), limit=500)},
    )
    return StageOutput(facts=encode(facts))


def _refuse_file_access(sources: list[bytes], entry: Path) -> None:
    calls = sorted({match[1].decode() for source in sources for match in _FILE_ACCESS.finditer(source)})
    if calls:
        raise UnsafeModel(
            f"{entry.name} calls {' and '.join(f'torch.{call}' for call in calls)}, which reads or writes files.",
            remedy="Remove the call; keep constants as buffers of the module.",
            operator=f"aten::{calls[0]}",
        )


def _load(path: Path, entry: Path) -> Any:
    try:
        return load_module(path)
    except DAMAGE as exc:
        if found := _UNKNOWN.search(str(exc)):
            operator = found[1] or found[2]
            raise CustomOperator(
                f"{entry.name} uses {plain(operator)}, which PyTorch itself does not have.",
                remedy="Write the operator with PyTorch's own ones.",
                operator=operator,
                domain=operator.partition("::")[0],
            ) from exc
        raise CorruptModel(
            f"torch.jit does not load {entry.name}: {plain(str(exc), limit=500)}",
            remedy="Save the module again with torch.jit.save and check that the copy is complete.",
        ) from exc


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _refuse_training(nodes: list[Any]) -> None:
    """Refuse a trace that froze dropout or batch norm in training mode; a script follows eval()."""
    for node in nodes:
        position, inputs = _TRAINING_INPUT.get(node.kind()), list(node.inputs())
        if position is not None and inputs[position].toIValue() is True and not _without_statistics(node, inputs):
            raise BadRequest(
                f"The module was traced in training mode: {node.kind()} is active.",
                remedy="Call model.eval() before torch.jit.trace.",
                operator=node.kind(),
            )


def _without_statistics(node: Any, inputs: list[Any]) -> bool:
    """Tell whether a batch norm keeps no running mean: then it follows the batch in evaluation too."""
    return bool(node.kind() == "aten::batch_norm" and inputs[3].type().kind() == "NoneType")
