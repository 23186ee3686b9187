"""Try a few ways to quantize and keep the best, judged on samples that did not calibrate it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Binding, Contract
from farm.domain.codec import encode
from farm.domain.data import ENOUGH_BESIDE
from farm.domain.errors import ArtifactBroken, ContractMismatch, ConversionFailed, ToolchainError
from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.stage import Options, StageInput, StageOutput
from workers.runtimes import Session, runtime_of
from workers.runtimes.binding import to_artifact, to_source
from workers.stages import memory
from workers.stages.compare.numerics import OutputError
from workers.stages.contracts import Declared, all_finite, bind_unchanged, prove
from workers.stages.npz import NpzReader
from workers.stages.samples import SEED, Feeds, iterate_samples, seeded_probe, split_rows
from workers.stages.tool_calls import python_specs
from workers.stages.transforms import given_contract, open_artifact, ranges_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBES = 4
SUFFIXES = {Format.TORCH_EXPORTED_PROGRAM: "pt2"}
"""How files are named where their format's name will not do."""
ENOUGH_DB = RECIPES["int8-static"].degraded_below_db
MOST_SAID = 200
"""Characters of each reason that a failure's message repeats; its evidence has them whole."""
MAX_SELECTION = 16
"""Samples that judge a candidate at most: each of them is run for every candidate."""
OUTPUT_MARGIN = 0.2
"""By which share more than the samples span is kept of an output. A score beyond it would be cut, and nothing mends
that: on few samples it cost 2.6 to 8 dB (from 48 and from 8 digits), while the wider step costs 1.6 dB at most of the
output's own rounding. Inner tensors keep what was found: of them there are many values to each sample."""
SATURATION = ("architecture", "numeric.dot_product")
"""What `saturates` reads of a profile."""


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

    def output(self, reproduce: str, **facts: Any) -> StageOutput:
        """Hand it back as the stage's artifact; facts say what it reached, by which way, and what else was tried."""
        told = {"sqnr_db": round(self.sqnr_db, 2), "quantization": self.name, "tried": self.tried}
        return StageOutput(
            files={"model": self.path}, facts={**told, **facts}, contract=self.contract, reproduce=reproduce
        )


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


def rows_lines(given: StageInput) -> tuple[str, ...]:
    """Return lines of Python that read calibration.npz as the stage read it, into `rows`, to repeat a calibration."""
    contract = json.dumps(encode(given_contract(given)))
    return (
        "import json",
        "from pathlib import Path",
        "from farm.domain.artifact import Contract",
        "from farm.domain.codec import decode",
        "from farm.domain.facts import TensorSpec",
        "from farm.domain.stage import StageInput",
        "from workers.stages.quantize.selection import CalibratedOptions, split_samples",
        f"contract = decode(Contract, json.loads({contract!r}))",
        f"options = CalibratedOptions({python_specs(given.options.input_specs)}, reports={given.options.reports})",
        "given = StageInput({'calibration': Path('calibration.npz')}, options, {}, contract, Path())",
        "rows = list(split_samples(given).calibration)",
    )


def saturates(profile: Mapping[str, Any]) -> bool:
    """Tell whether a target's int8 kernels may saturate, so that weights have to keep 7 bits.

    An x86 CPU without VNNI adds pairs of uint8 x int8 products in 16 bits (vpmaddubsw); ARM's kernels widen first. The
    build host, where candidates are judged, may be of another kind, so the profile decides and not the judge.
    Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, on reduce_range.
    """
    return "x86_64" in (profile.get("architecture") or ()) and not profile.get("numeric.dot_product")


def seeded_samples(given: StageInput) -> Samples:
    """Make seeded inputs in [0, 1) to judge by, where a recipe needs no data."""
    specs = tuple(binding.artifact for binding in given_contract(given).inputs)
    ranges = ranges_of(given)
    return Samples((), tuple(seeded_probe(specs, ranges, seed=SEED + at, positive=True) for at in range(PROBES)))


class Judge:
    """Hold quantized files against their float model, on samples that did not calibrate them.

    `kind` is the format of the files, and of files["model"] unless `source_kind` says another. Tensors keep dtype
    and layout, and are bound by name or order; with `known_as`, the name that the tool gave to an input by the model's,
    they may be integers, and a sample tells which is which. The float model is closed once it has answered: a tool that
    quantizes a large one needs the memory.
    """

    def __init__(
        self,
        given: StageInput,
        kind: Format,
        selection: tuple[Feeds, ...],
        *,
        source_kind: Format | None = None,
        known_as: Mapping[str, str] | None = None,
        prefix: str = "candidate",
    ) -> None:
        self.kind, self.work, self.suffix = kind, given.work, SUFFIXES.get(kind, kind)
        self._names = (f"{prefix}_{at}.{self.suffix}" for at in itertools.count())
        self._selection, self._known_as = selection, known_as
        self._model = given_contract(given)
        source = runtime_of(source_kind or kind).load(given.files["model"])
        self._expected = [source.run(feed) for feed in selection]
        self._declared = Declared(source.inputs, source.outputs)
        del source
        memory.give_back()

    def new_path(self) -> Path:
        """Name a file that is not there yet."""
        return self.work / next(self._names)

    def judge(self, path: Path) -> tuple[Contract, float]:
        """Open a file, bind its tensors, and return the SQNR (dB) of the output that lost most.

        Raises:
            ToolchainError: it does not open, run or stay finite, or has other tensors.
        """
        artifact = open_artifact(self.kind, path)
        if self._known_as is None:
            contract = bind_unchanged(self._model, self._declared, artifact)
        else:
            probe = self._selection[0], self._expected[0]
            contract = prove(self._model, *probe, artifact, known_as=self._known_as).contract
        return contract, self._worst_db(contract, artifact)

    def _worst_db(self, contract: Contract, artifact: Session) -> float:
        inputs = _between(self._model.inputs, contract.inputs)
        outputs = _between(self._model.outputs, contract.outputs)
        errors = [OutputError() for _ in outputs]
        for feed, reference in zip(self._selection, self._expected, strict=True):
            answers = to_source(self._run(artifact, to_artifact(feed, inputs)), outputs)
            for error, binding in zip(errors, outputs, strict=True):
                error.add(reference[binding.source.name], answers[binding.source.name])
        return min(error.sqnr_db for error in errors)

    def _run(self, artifact: Session, feed: Feeds) -> dict[str, NDArray[Any]]:
        """Run once; a quantized kernel may only refuse its values here (a division whose divisor rounds to zero)."""
        try:
            answers = artifact.run(feed)
        except runtime_of(self.kind).refusals() as exc:
            raise ArtifactBroken(f"The quantized file loads and does not run: {str(exc)[:500]}") from exc
        if not all_finite(answers):
            raise ArtifactBroken("The quantized file returns values that are not finite.")
        return answers


def choose(judge: Judge, candidates: Iterable[Candidate], *, enough_db: float = ENOUGH_DB) -> Chosen:
    """Keep the first candidate whose worst output reaches `enough_db`, else the best of all, as the stage's file.

    Raises:
        ConversionFailed: every candidate failed; the evidence tells why each did.
    """
    return keep(judge, try_each(judge, candidates, enough_db=enough_db))


def try_each(judge: Judge, candidates: Iterable[Candidate], *, enough_db: float = ENOUGH_DB) -> Chosen:
    """Return the first candidate whose worst output reaches `enough_db`, else the best of all.

    Raises:
        ConversionFailed: every candidate failed; the evidence tells why each did.
    """
    tried: dict[str, float | str] = {}
    best: Chosen | None = None
    for found in _working(judge, candidates, tried):
        best = found if best is None or found.sqnr_db > best.sqnr_db else best
        if best.sqnr_db >= enough_db:
            break
    return _best(best, tried)


def try_coarsest(judge: Judge, candidates: Iterable[Candidate], *, enough_db: float = ENOUGH_DB) -> Chosen:
    """Return the last candidate that reaches `enough_db`, when each keeps less in float than the one before.

    Once one does not reach it, those after it are not made: they are no nearer. If none does, it is the first.

    Raises:
        ConversionFailed: every candidate failed; the evidence tells why each did.
    """
    tried: dict[str, float | str] = {}
    kept: Chosen | None = None
    for found in _working(judge, candidates, tried):
        kept = found if kept is None or found.sqnr_db >= enough_db else kept
        if found.sqnr_db < enough_db:
            break
    return _best(kept, tried)


def _working(judge: Judge, candidates: Iterable[Candidate], tried: dict[str, float | str]) -> Iterator[Chosen]:
    """Make and judge one after the other, and write down what each reached or why it failed; yield those that work."""
    for candidate in candidates:
        path = judge.new_path()
        try:
            candidate.write(path)
            found = Chosen(path, candidate.name, *judge.judge(path))
        except ToolchainError as exc:
            tried[candidate.name] = exc.message
            continue
        tried[candidate.name] = round(found.sqnr_db, 2)
        yield found


def _best(best: Chosen | None, tried: Mapping[str, float | str]) -> Chosen:
    if best is None:
        raise _nothing_works(tried)
    return replace(best, tried=tried)


def _nothing_works(tried: Mapping[str, float | str]) -> ConversionFailed:
    told = "; ".join(f"{name}: {str(why).rstrip('.')[:MOST_SAID]}" for name, why in tried.items())
    return ConversionFailed(
        f"No way to quantize this model gave a file that works, of {len(tried)} tried. {told}.",
        remedy="Take recipe float16, int8-dynamic or int4-weights, which leave activations alone, or another runtime.",
        tried=dict(tried),
    )


def keep(judge: Judge, chosen: Chosen) -> Chosen:
    """Give the chosen file its place."""
    return replace(chosen, path=chosen.path.rename(judge.work / f"model.{judge.suffix}"))


def _between(model: tuple[Binding, ...], artifact: tuple[Binding, ...]) -> tuple[Binding, ...]:
    """Bind the model's tensors to those of the artifact made of it.

    Raises:
        ContractMismatch: another layout.
    """
    for old, new in zip(model, artifact, strict=True):
        if old.transpose != new.transpose:
            raise ContractMismatch(f"Quantization changed the order of axes of {old.artifact} in {new.artifact}.")
    return tuple(Binding(old.artifact, new.artifact) for old, new in zip(model, artifact, strict=True))
