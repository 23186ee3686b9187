"""Inspect an ExecuTorch program (.pte).

Tested with executorch 1.5.1. Source: ExecuTorch, program.fbs (exir/_serialize), read by the package's own reader.
The validity test is a loaded method, which prepares every delegate; a call of a delegate counts as one operator, since
what it holds is the delegate's own, and so are its parameters: their number is not known.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel, Incompatible
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.executorch import SUFFIXES, ExecuTorchSession
from workers.runtimes.files import entry_file
from workers.stages.inspect.reading import DAMAGE, reading
from workers.stages.wording import plain

READER = "executorch.exir._serialize"
RESAVE = "Export the model again and check that the copy is complete, or submit the .pt2 it was made of."
_MARK, _MARK_AT = b"ET12", 4


@stage(
    name="inspect-executorch",
    version="1",
    kind=Kind.INSPECT,
    source=Format.EXECUTORCH,
    environment="executorch",
    tools=("executorch", "torch"),
    preload=("numpy", "torch", READER),
    timeout_s=120.0,
)
def run(given: StageInput) -> StageOutput:
    """Load the method and count the instructions of its plan.

    Returns: facts, the JSON of ModelFacts; `parameters` is None, `extra` names the delegates.
    Raises: CorruptModel; Incompatible for a delegate that is not in this runtime.
    """
    entry = marked_file(given.files["model"])
    session = _open(entry)
    with reading(entry.name):
        plan = importlib.import_module(READER)._deserialize_pte_binary(entry.read_bytes()).program.execution_plan[0]
        operators = Counter(_calls(plan))
        delegates = sorted({plain(delegate.id, limit=100) for delegate in plan.delegates})
    facts = ModelFacts(
        format=Format.EXECUTORCH,
        inputs=session.inputs,
        outputs=session.outputs,
        operators=dict(operators),
        size_bytes=entry.stat().st_size,
        extra={"delegates": delegates},
    )
    return StageOutput(facts=encode(facts))


def marked_file(path: Path) -> Path:
    """Return the .pte file.

    Raises:
        CorruptModel: it lacks the mark of the format.
    """
    entry = entry_file(path, SUFFIXES)
    with entry.open("rb") as file:
        head = file.read(_MARK_AT + len(_MARK))
    if head[_MARK_AT:] != _MARK:
        raise CorruptModel(f"{entry.name} is not an ExecuTorch program: it lacks the mark ET12.", remedy=RESAVE)
    return entry


def _open(entry: Path) -> ExecuTorchSession:
    try:
        return ExecuTorchSession(entry)
    except DAMAGE as exc:
        if missing := _missing_delegates(entry):
            raise Incompatible(
                f"{entry.name} was lowered for {', '.join(missing)}, which this farm's ExecuTorch does not have.",
                remedy="Submit the .pt2; the farm lowers it for XNNPACK itself.",
            ) from exc
        raise CorruptModel(
            f"ExecuTorch does not open {entry.name}: {plain(str(exc), limit=500)}", remedy=RESAVE
        ) from exc


def _missing_delegates(entry: Path) -> list[str]:
    """Name the delegates of a plan that the runtime lacks; none when it can't be read."""
    from executorch.extension.pybindings import _C as bindings

    try:
        plan = importlib.import_module(READER)._deserialize_pte_binary(entry.read_bytes()).program.execution_plan[0]
        wanted = {plain(delegate.id, limit=100) for delegate in plan.delegates}
    except DAMAGE:
        return []
    return sorted(wanted - set(bindings._get_registered_backend_names()))


def _calls(plan: Any) -> Iterator[str]:
    """Name what each instruction calls: an operator, or a delegate; moves and jumps are left out."""
    for instruction in (each for chain in plan.chains for each in chain.instructions):
        call = instruction.instr_args
        if hasattr(call, "op_index"):
            operator = plan.operators[call.op_index]
            yield plain(f"{operator.name}.{operator.overload}".removesuffix("."), limit=100)
        elif hasattr(call, "delegate_index"):
            yield plain(f"delegate:{plan.delegates[call.delegate_index].id}", limit=100)
