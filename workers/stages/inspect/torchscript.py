"""Inspect a TorchScript module (.pt, .jit), scripted or traced.

Tested with torch 2.13.0. Source: PyTorch, torch.jit.
The file says neither dtype nor shape of its inputs; the submitter adds them with --input.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel, CustomOperator, UnsafeModel
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file, tree_size_bytes
from workers.runtimes.torchscript import SUFFIXES, describe_module, load_module
from workers.stages.inspect.reading import DAMAGE
from workers.stages.inspect.torch_archive import open_archive
from workers.stages.training_mode import refuse_training_module, script_nodes
from workers.stages.wording import plain

_FILE_ACCESS = re.compile(rb"(?:torch\.|aten\.|aten::)(from_file|save)\(")
_UNKNOWN = re.compile(r"Unknown builtin op: ([\w:.]+)|[Uu]nknown type name '([^']+)'")


@stage(
    name="inspect-torchscript",
    version="2",
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
    refuse_training_module(module)
    nodes = script_nodes(module.inlined_graph)
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
