"""Run an artifact on the source's samples under its own runtime, and hold its outputs against the source's.

One stage per deployable runtime, named compare-<runtime>; it runs on the target's host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Contract
from farm.domain.codec import encode
from farm.domain.data import CHOSEN_BY, SELECTS
from farm.domain.errors import ArtifactBroken, ContractMismatch, CorruptModel, MissingFile
from farm.domain.stage import Kind, Options, StageInput, StageOutput, always, stage
from workers.runtimes import Runtime, Session, deployable_runtimes
from workers.runtimes.binding import to_artifact, to_source
from workers.stages.compare.agreement import changes_seen, check_contract
from workers.stages.compare.numerics import OutputError, summarize
from workers.stages.npz import NpzReader
from workers.stages.wording import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


UNREADABLE: tuple[type[Exception], ...] = (CorruptModel, MissingFile)
"""How our own code refuses a file before the runtime sees it."""


def run_compare(runtime: Runtime, given: StageInput) -> StageOutput:
    """Open the artifact, check its contract, run all samples and measure the error.

    Args:
        runtime: what executes it.
        given: files["model"], files["samples"] from a reference stage; contract as the route declares it.
    Returns: facts {"numerics": as in the report, "artifact": {"inputs", "outputs", "contract_changes"}}; the numerics
        hold those of the samples that select as `selection`, where the reference run marks any.
    Raises: ArtifactBroken when it does not load, run, or return finite values; ContractMismatch when its inputs or
        outputs are not what was declared.
    """
    contract = declared_contract(given)
    session = open_artifact(runtime, given.files["model"])
    check_contract(contract, session.inputs, session.outputs)
    parts: dict[bool, dict[str, OutputError]] = {
        selects: {binding.source.name: OutputError() for binding in contract.outputs} for selects in (False, True)
    }
    samples = {False: 0, True: 0}
    with NpzReader(given.files["samples"], what="reference") as reader:
        for (inputs, expected), selects in zip(reference_samples(reader, contract), selecting(reader), strict=True):
            actual = run_artifact(runtime, session, contract, inputs)
            for name, error in parts[selects].items():
                check_shape(name, expected[name], actual[name])
                error.add(expected[name], actual[name])
            samples[selects] += 1
    numerics = summarize(parts[False], samples[False])
    if samples[True]:
        numerics[CHOSEN_BY] = summarize(parts[True], samples[True])
    artifact = {
        "inputs": encode(session.inputs),
        "outputs": encode(session.outputs),
        "contract_changes": list(changes_seen(contract, session.inputs, session.outputs)),
    }
    return StageOutput(facts={"numerics": numerics, "artifact": artifact})


def declared_contract(given: StageInput) -> Contract:
    """Return the route's contract; without one the artifact is the source itself."""
    options: Options = given.options
    return given.contract or Contract.identity(options.input_specs, options.output_specs)


def open_artifact(runtime: Runtime, path: Path, *, threads: int = 1) -> Session:
    """Load the artifact.

    Raises:
        ArtifactBroken: the runtime refuses it.
    """
    try:
        return runtime.load(path, threads=threads)
    except (*runtime.refusals(), *UNREADABLE) as exc:
        raise ArtifactBroken(
            f"The artifact does not load in {runtime.name}: {plain(str(exc), limit=500)}", tool=runtime.name
        ) from exc


def reference_samples(reader: NpzReader, contract: Contract) -> Iterator[tuple[Arrays, Arrays]]:
    """Yield inputs and expected outputs by source name, one sample at a time.

    Raises:
        ContractMismatch: the reference lacks a tensor that the contract names.
    """
    inputs = [binding.source.name for binding in contract.inputs]
    outputs = [binding.source.name for binding in contract.outputs]
    keys = [*(f"input/{name}" for name in inputs), *(f"output/{name}" for name in outputs)]
    if missing := [key for key in keys if key not in reader.headers]:
        raise ContractMismatch(f"The source's reference run has no {', '.join(missing)}, which the contract names.")
    for row in zip(*(reader.rows(key) for key in keys), strict=True):
        split = len(inputs)
        yield dict(zip(inputs, row[:split], strict=True)), dict(zip(outputs, row[split:], strict=True))


def selecting(reader: NpzReader) -> Iterator[bool]:
    """Tell of each sample of a reference run, in order, whether it is one by which is chosen."""
    if SELECTS in reader.headers:
        yield from (bool(mark.item()) for mark in reader.rows(SELECTS))
    else:
        count = max(header.rows for name, header in reader.headers.items() if name.startswith("output/"))
        yield from repeat(False, count)


def run_artifact(runtime: Runtime, session: Session, contract: Contract, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Run one sample, from source names to source names.

    Raises:
        ArtifactBroken: the runtime refuses the call, or a value is not finite.
    """
    import numpy as np

    feeds = to_artifact(inputs, contract.inputs)
    try:
        results = session.run(feeds)
    except runtime.refusals() as exc:
        raise ArtifactBroken(
            f"The artifact loads, but does not run in {runtime.name}: {plain(str(exc), limit=500)}", tool=runtime.name
        ) from exc
    for name, array in results.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtifactBroken(f"Output {name!r} holds values that are not finite.", tool=runtime.name)
    return to_source(results, contract.outputs)


def check_shape(name: str, expected: NDArray[Any], actual: NDArray[Any]) -> None:
    if expected.shape != actual.shape:
        raise ContractMismatch(
            f"Output {name!r} has shape {list(actual.shape)}; the source's has {list(expected.shape)}."
        )


def _register(runtime: Runtime) -> None:
    stage(
        name=f"compare-{runtime.name}",
        version="5",
        kind=Kind.COMPARE,
        environment=runtime.environment,
        check=always,
        runtime=runtime.name,
        inputs=("samples",),
        reads=("name",),
        tools=runtime.tools,
        preload=runtime.preload,
    )(partial(run_compare, runtime))


for _runtime in deployable_runtimes():
    _register(_runtime)
