"""What every float conversion does alike: open the result, prove it against its model, and hand it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Contract
from farm.domain.errors import ArtifactBroken, CorruptModel, MissingFile, ToolOutOfMemory
from farm.domain.facts import Format, TensorSpec
from farm.domain.stage import StageInput, StageOutput
from workers.runtimes import Runtime, Session, runtime_of
from workers.runtimes.files import tree_size_bytes
from workers.stages import memory
from workers.stages.contracts import probes, prove_answers
from workers.stages.foreign import translate
from workers.stages.samples import artifact_ranges
from workers.stages.tool_calls import FOREIGN, tool_version
from workers.stages.wording import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.runtimes import Arrays
    from workers.runtimes.torch_modules import ModuleSession

UNREADABLE: tuple[type[Exception], ...] = (CorruptModel, MissingFile)
"""How our own code refuses a file before its runtime sees it."""
LARGE_BYTES = 256 << 20
"""From this size on a model is asked and let go before what was made of it is opened: they don't fit side by side."""


def given_contract(given: StageInput) -> Contract:
    """Return how the source's tensors appear in files["model"], also where that is the source itself."""
    return given.contract or Contract.identity(given.options.input_specs, given.options.output_specs)


def interface(given: StageInput) -> tuple[tuple[TensorSpec, ...], list[str]]:
    """Return the inputs of files["model"] and the names of its outputs, in the source's order."""
    contract = given_contract(given)
    return tuple(b.artifact for b in contract.inputs), [b.artifact.name for b in contract.outputs]


def ranges_of(given: StageInput) -> dict[str, tuple[float, float]]:
    """Return the declared ranges of the inputs of files["model"], by their names there."""
    return artifact_ranges(given_contract(given), given.options.ranges)


def open_artifact(kind: Format, path: Path) -> Session:
    """Load what a stage wrote with the runtime that will execute it, on one thread.

    Raises:
        ArtifactBroken: the runtime refuses the file, now or when it is run: the submitter's file it is not.
        ToolOutOfMemory: it says that memory ran out.
    """
    runtime = runtime_of(kind)
    with _artifact_call(runtime, path, "load"):
        return _Opened(runtime.load(path), runtime, path)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session of what a stage wrote; a run that fails is the file's fault too."""

    session: Session
    runtime: Runtime
    path: Path

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.session.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.session.outputs

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        with _artifact_call(self.runtime, self.path, "run"):
            return self.session.run(feeds)


@contextmanager
def _artifact_call(runtime: Runtime, path: Path, doing: str) -> Iterator[None]:
    """Turn what a runtime raises of a file into a failure of who wrote it, whatever it is known to mean of a source."""
    try:
        yield
    except (*FOREIGN, *runtime.refusals(), *UNREADABLE) as exc:
        tool, text = runtime.tools[0], plain(str(exc), limit=4000)
        known = translate(exc, during=tool)
        said = {name: value for name, value in known.evidence.items() if name != "traceback"}
        told = {**said, "tool": tool, "version": tool_version(tool), "log_tail": text}
        kind = ToolOutOfMemory if isinstance(known, ToolOutOfMemory) else ArtifactBroken
        raise kind(
            f"{path.name} was written, but {tool} {tool_version(tool)} does not {doing} it: {text[:500]}", **told
        ) from exc


def proven(
    given: StageInput,
    path: Path,
    *,
    source: Format,
    target: Format,
    reproduce: str,
    facts: Mapping[str, Any] | None = None,
    inputs_as: str | Mapping[str, str] | None = None,
    opened: ModuleSession | None = None,
) -> StageOutput:
    """Return `path` as the float artifact made from files["model"].

    `source` is the format of files["model"], `target` that of `path`; `inputs_as` is the stem of the names that the
    tool gave to inputs in order ("args" for args_0, args_1 …), or each name by the model's. `opened` is files["model"]
    where that is in memory already: large models don't fit twice, and such a one is emptied once it has answered.

    Raises:
        ArtifactBroken: the file does not load, or returns values that are not finite.
        ContractMismatch: its tensors are not the model's in any order of axes.
        NumericsBroken: it does not compute the model's function.
    """
    contract = given_contract(given)
    model = opened or runtime_of(source).load(given.files["model"])
    answered = probes(contract, model, given.options.ranges)
    if tree_size_bytes(given.files["model"]) > LARGE_BYTES:
        answered = iter(list(answered))
        del model
        if opened is not None:
            opened.empty()
        memory.give_back()
    artifact = open_artifact(target, path)
    names = {b.artifact.name: f"{inputs_as}_{index}" for index, b in enumerate(contract.inputs)}
    known_as = names if isinstance(inputs_as, str) else inputs_as
    proof = prove_answers(contract, answered, artifact, known_as)
    return StageOutput(
        files={"model": path},
        facts={"sqnr_db": round(proof.sqnr_db, 2), **(facts or {})},
        contract=proof.contract,
        reproduce=reproduce,
    )
