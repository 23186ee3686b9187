"""Inspect an exported PyTorch program (.pt2).

Tested with torch 2.13.0. Source: PyTorch, torch.export.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CustomOperator, UnsafeModel
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file, tree_size_bytes
from workers.runtimes.torch_exported_program import SUFFIXES, describe_program, load_program
from workers.stages.inspect.reading import reading
from workers.stages.inspect.torch_archive import open_archive
from workers.stages.training_mode import refuse_training_program

_TARGET = re.compile(rb'"target": ?"torch\.ops\.([A-Za-z0-9_.]+)"')


@stage(
    name="inspect-torch-exported-program",
    version="2",
    kind=Kind.INSPECT,
    source=Format.TORCH_EXPORTED_PROGRAM,
    environment="builder",
    tools=("torch",),
    preload=("torch",),
    timeout_s=120.0,
)
def run(given: StageInput) -> StageOutput:
    """Load the program without running pickles and read its graph.

    Returns: facts, the JSON of ModelFacts.
    Raises: UnsafeModel, CorruptModel, CustomOperator; BadRequest for a program exported in training mode.
    """
    path = given.files["model"]
    program = _load(path)
    refuse_training_program(program)
    inputs, outputs = describe_program(program)
    facts = ModelFacts(
        format=Format.TORCH_EXPORTED_PROGRAM,
        inputs=inputs,
        outputs=outputs,
        operators=_operators(program),
        parameters=sum(tensor.numel() for tensor in program.parameters()),
        size_bytes=tree_size_bytes(path),
        producer="torch.export",
        extra={"range_constraints": {str(name): str(value) for name, value in program.range_constraints.items()}},
    )
    return StageOutput(facts=encode(facts))


def _load(path: Path) -> Any:
    import pickle

    entry = entry_file(path, SUFFIXES)
    graphs = open_archive(entry, Format.TORCH_EXPORTED_PROGRAM).read("models/", ".json")
    _refuse_unknown({match[1].decode(errors="replace") for graph in graphs for match in _TARGET.finditer(graph)})
    try:
        with reading(entry.name):
            return load_program(path)
    except pickle.UnpicklingError as exc:
        raise UnsafeModel(
            f"{entry.name} holds a pickle that is not plain tensors, which could run code; it was not loaded.",
            remedy="Export the program again with torch.export.save, with tensors as example inputs.",
        ) from exc


def _refuse_unknown(called: set[str]) -> None:
    """Refuse operators that this PyTorch does not have.

    Raises:
        CustomOperator: naming all of them.
    """
    import torch

    unknown = []
    for target in sorted(called):
        namespace, _, rest = target.partition(".")
        if not hasattr(getattr(torch.ops, namespace), rest.partition(".")[0]):
            unknown.append(target)
    if unknown:
        raise CustomOperator(
            f"The program calls {', '.join(unknown)}, which PyTorch itself does not have.",
            remedy="Write the operator with PyTorch's own ones before exporting.",
            operator=unknown[0],
            domain=unknown[0].partition(".")[0],
        )


def _operators(program: Any) -> Mapping[str, int]:
    calls = (node.target for node in program.graph_module.graph.nodes if node.op == "call_function")
    return dict(Counter(str(target) for target in calls))
