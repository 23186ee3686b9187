"""Try a few ways to quantize and keep the best, judged on samples that did not calibrate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Binding, Contract
from farm.domain.data import ENOUGH_BESIDE
from farm.domain.errors import ArtifactBroken, ContractMismatch, ConversionFailed, ToolchainError
from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.stage import Options, StageInput
from workers.runtimes import Session, runtime_of
from workers.runtimes.binding import to_artifact, to_source
from workers.stages.compare.numerics import OutputError
from workers.stages.contracts import all_finite, bind_unchanged, prove
from workers.stages.npz import NpzReader
from workers.stages.samples import Feeds, iterate_samples, split_rows
from workers.stages.transforms import given_contract, open_artifact

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENOUGH_DB = RECIPES["int8-static"].degraded_below_db
MAX_SELECTION = 16
"""Samples that judge a candidate at most: each of them is run for every candidate."""


@dataclass(frozen=True, slots=True)
class CalibratedOptions(Options):
    """`reports`: a quarter of the calibration data is left for the report, since no evaluation data does that."""

    reports: bool = False


@dataclass(frozen=True, slots=True)
class Samples:
    """Disjoint samples in the float model's terms; the first of `selection` also proves the contract."""

    calibration: tuple[Feeds, ...]
    selection: tuple[Feeds, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to quantize; `write` makes the file."""

    name: str
    write: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidate that was kept, and what each reached in dB (or why it failed)."""

    path: Path
    name: str
    contract: Contract
    sqnr_db: float
    tried: Mapping[str, float | str] = field(default_factory=dict)


def split_samples(given: StageInput) -> Samples:
    """Read the calibration file and part it by values, as the reference run does: none of its samples is here.

    Fewer than `ENOUGH_BESIDE` samples, of which no job makes a result, calibrate and select both.
    """
    options: CalibratedOptions = given.options
    feeds = list(iterate_samples(given.files["calibration"], options.input_specs, given_contract(given)))
    if len(feeds) < ENOUGH_BESIDE:
        return Samples(tuple(feeds), tuple(feeds))
    with NpzReader(given.files["calibration"], what="calibration") as data:
        parts = split_rows(data, options.input_specs, reports=options.reports)
    selection = [feeds[row] for row in parts.selection[:MAX_SELECTION]]
    return Samples(tuple(feeds[row] for row in parts.calibration), tuple(selection or feeds))


def choose(
    given: StageInput,
    kind: Format,
    samples: Samples,
    candidates: Sequence[Candidate],
    *,
    source_kind: Format | None = None,
    known_as: Mapping[str, str] | None = None,
) -> Chosen:
    """Return the first candidate whose worst output reaches `ENOUGH_DB`, else the best of all.

    `kind` is the format of the candidates, and of files["model"] unless `source_kind` says another. Tensors keep dtype
    and layout, and are bound by name or order; with `known_as`, the name that the tool gave to an input by the model's,
    they may be integers, and a sample tells which is which.

    Raises:
        ConversionFailed: every candidate failed; the evidence tells why each did.
    """
    source = runtime_of(source_kind or kind).load(given.files["model"])
    expected = [source.run(feed) for feed in samples.selection]
    tried: dict[str, float | str] = {}
    best: Chosen | None = None
    for at, candidate in enumerate(candidates):
        path = given.work / f"candidate_{at}.{kind}"
        try:
            candidate.write(path)
            artifact = open_artifact(kind, path)
            if known_as is None:
                contract = bind_unchanged(given_contract(given), source, artifact)
            else:
                probe = samples.selection[0], expected[0]
                contract = prove(given_contract(given), *probe, artifact, known_as=known_as).contract
            found = Chosen(path, candidate.name, contract, _worst_db(given, contract, artifact, samples, expected))
        except ToolchainError as exc:
            tried[candidate.name] = exc.message
            continue
        tried[candidate.name] = round(found.sqnr_db, 2)
        best = found if best is None or found.sqnr_db > best.sqnr_db else best
        if best.sqnr_db >= ENOUGH_DB:
            break
    if best is None:
        raise ConversionFailed("No way to quantize this model gave a file that works.", tried=tried)
    return Chosen(best.path.rename(given.work / f"model.{kind}"), best.name, best.contract, best.sqnr_db, tried)


def _worst_db(
    given: StageInput, contract: Contract, artifact: Session, samples: Samples, expected: list[dict[str, NDArray[Any]]]
) -> float:
    """Return the SQNR (dB) of the output that lost most, over the selection samples."""
    model = given_contract(given)
    inputs, outputs = _between(model.inputs, contract.inputs), _between(model.outputs, contract.outputs)
    errors = [OutputError() for _ in outputs]
    for feed, reference in zip(samples.selection, expected, strict=True):
        answers = to_source(_run(artifact, to_artifact(feed, inputs)), outputs)
        for error, binding in zip(errors, outputs, strict=True):
            error.add(reference[binding.source.name], answers[binding.source.name])
    return min(error.sqnr_db for error in errors)


def _between(model: tuple[Binding, ...], artifact: tuple[Binding, ...]) -> tuple[Binding, ...]:
    """Bind the model's tensors to those of the artifact made of it.

    Raises:
        ContractMismatch: another layout.
    """
    for old, new in zip(model, artifact, strict=True):
        if old.transpose != new.transpose:
            raise ContractMismatch(f"Quantization changed the order of axes of {old.artifact} in {new.artifact}.")
    return tuple(Binding(old.artifact, new.artifact) for old, new in zip(model, artifact, strict=True))


def _run(artifact: Session, feed: Feeds) -> dict[str, NDArray[Any]]:
    """Run once; a quantized kernel may only refuse its values here (a division whose divisor rounds to zero)."""
    try:
        answers = artifact.run(feed)
    except (RuntimeError, ValueError) as exc:
        raise ArtifactBroken(f"The quantized file loads and does not run: {str(exc)[:500]}") from exc
    if not all_finite(answers):
        raise ArtifactBroken("The quantized file returns values that are not finite.")
    return answers
