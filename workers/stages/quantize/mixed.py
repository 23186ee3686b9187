"""int8 with a few operators in float: rank all by measured sensitivity, keep the dearest until it is near enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from farm.domain.errors import BadRequest
from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.stage import StageInput
from workers.stages.quantize.selection import (
    CalibratedOptions,
    Candidate,
    Chosen,
    Judge,
    Samples,
    keep,
    try_each,
)
from workers.stages.quantize.sensitivity import BUDGET_S, SAMPLES, Ranking, rank

ENOUGH_DB = RECIPES["int8-mixed"].degraded_below_db


@dataclass(frozen=True, slots=True)
class MixedOptions(CalibratedOptions):
    """Which operators stay in float; without `keep_float` they are ranked first.

    Attributes:
        keep_float: their names, as a ranking told them.
        keep_float_count: so many of the ranking's dearest; None takes as few as reach `enough_db`.
        enough_db: the SQNR (dB) to reach.
        ranking_budget_s: seconds that ranking may take.
    """

    keep_float: tuple[str, ...] = ()
    keep_float_count: int | None = None
    enough_db: float = ENOUGH_DB
    ranking_budget_s: float = BUDGET_S


class Engine(Protocol):
    """A toolchain that quantizes a model but for some operators."""

    @property
    def operators(self) -> Sequence[str]:
        """Names of what may be quantized, first to last."""
        ...

    @property
    def bases(self) -> Sequence[str]:
        """Names of the ways to quantize everything."""
        ...

    def write(self, path: Path, base: str, keep_float: tuple[str, ...]) -> None: ...

    def write_only(self, path: Path, base: str, operator: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Mixed:
    """What was chosen: by which base, with which operators in float, and the ranking where one was made."""

    chosen: Chosen
    base: str
    keep_float: tuple[str, ...]
    ranking: Ranking | None

    @property
    def facts(self) -> dict[str, Any]:
        return {"keep_float": list(self.keep_float), **(self.ranking.facts if self.ranking else {})}


def choose_mixed(given: StageInput, kind: Format, samples: Samples, engine: Engine) -> Mixed:
    """Quantize with some operators in float, as the options say.

    Raises:
        BadRequest: `keep_float` names an operator that the model lacks.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    options: MixedOptions = given.options
    _refuse_unknown(options.keep_float, engine.operators)
    judge = Judge(given, kind, samples.selection)
    bases = [_candidate(engine, base, options.keep_float) for base in engine.bases]
    if options.keep_float:
        first = try_each(judge, bases, enough_db=options.enough_db)
        return Mixed(keep(judge, first), _base(engine, first), options.keep_float, None)
    whole = try_each(judge, bases, enough_db=options.enough_db)
    base = _base(engine, whole)
    few = Judge(given, kind, samples.selection[:SAMPLES], prefix="ranked")
    ranking = rank(
        few,
        engine.operators,
        lambda path, operator: engine.write_only(path, base, operator),
        budget_s=options.ranking_budget_s,
    )
    chosen, kept = _as_few_as_needed(judge, engine, whole, ranking, options)
    return Mixed(keep(judge, chosen), base, kept, ranking)


def _as_few_as_needed(
    judge: Judge, engine: Engine, whole: Chosen, ranking: Ranking, options: MixedOptions
) -> tuple[Chosen, tuple[str, ...]]:
    """Keep the dearest operators in float; fidelity need not grow with their number, so the best of all tried wins."""
    base = _base(engine, whole)
    asked = options.keep_float_count
    if asked == 0 or (asked is None and whole.sqnr_db >= options.enough_db) or not ranking.costs:
        return whole, ()
    counts = [asked] if asked is not None else list(_counts(len(ranking.costs)))
    kept = {_candidate(engine, base, names).name: names for names in map(ranking.worst, counts)}
    found = try_each(judge, [_candidate(engine, base, n) for n in kept.values()], enough_db=options.enough_db)
    tried = {**whole.tried, **found.tried}
    best = found if asked is not None or found.sqnr_db > whole.sqnr_db else whole
    return replace(best, tried=tried), kept.get(best.name, ())


def _counts(operators: int) -> Iterator[int]:
    """Count 1, 2, 3, 4, 6, 8, 12, 16 … up to half of the operators."""
    count, step = 1, 1
    while count <= max(1, operators // 2):
        yield count
        step = max(1, 1 << (count.bit_length() - 2)) if count > 1 else 1
        count += step


def _candidate(engine: Engine, base: str, keep_float: tuple[str, ...]) -> Candidate:
    name = f"{base}, {len(keep_float)} in float" if keep_float else base
    return Candidate(name, lambda path: engine.write(path, base, keep_float))


def _base(engine: Engine, chosen: Chosen) -> str:
    return max((base for base in engine.bases if f"{chosen.name}, ".startswith(f"{base}, ")), key=len)


def _refuse_unknown(names: Sequence[str], operators: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in operators]:
        raise BadRequest(
            f"The model has no operator {', '.join(map(repr, unknown))} that could stay in float; it has "
            f"{', '.join(operators[:20])}{' …' if len(operators) > 20 else ''}.",
            remedy="Take names from the facts `sensitivity` of a run without keep_float.",
        )
