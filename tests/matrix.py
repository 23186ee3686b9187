"""Run every cell of the matrix on a real small model of each source format, and write docs/matrix.md: `make matrix`.

A cell is source × artifact format × recipe; a source is a format, and quantized TFLite beside it. Its routes are those
a plan would keep, best first; the next one is tried when a stage fails. Beginnings that routes share run once. Stages
run in waves, many in one process of their environment, through the harness that the contract tests use; what they
answer is kept, so that a second run only does what is new.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from farm import catalog
from farm.domain.codec import decode
from farm.domain.errors import EnvironmentMissing, Failure
from farm.domain.facts import Format, ModelFacts
from farm.domain.progress import is_of_a_tool
from farm.domain.recipe import BASELINE, RECIPES
from farm.domain.routes import Route, choose, find_routes
from farm.domain.stage import TRANSFORMS, Kind, StageSpec
from tests import transform_fixtures
from tests.matrix_calls import answer_all, kept, key_of
from tests.matrix_page import Cell, page
from tests.stage_fixtures import ROOT, Answer, Call, model_file
from tests.transform_fixtures import Source, calibration, run_in

DOCUMENT = ROOT / "docs" / "matrix.md"
CALLS_PER_PROCESS = 12
ENDS = {Format.ORT: "good.ort", Format.EXECUTORCH: "good.pte"}
QUANTIZED = {"tflite-int8": Format.TFLITE}
"""Sources beside those that are named as their format."""
Prefix = tuple[str, tuple[str, ...]]


@cache
def sources() -> dict[str, Source]:
    """Give a model of every source, also of those that no stage starts from and that are only run as they are."""
    ends = {fmt: Source(model_file(name), [], []) for fmt, name in ENDS.items()}
    formats = {str(fmt): source for fmt, source in (transform_fixtures.sources() | ends).items()}
    return formats | dict.fromkeys(QUANTIZED, quantized_tflite())


def quantized_tflite() -> Source:
    """Give a full-integer TFLite file; only inspection knows the scales of its tensors."""
    path = model_file("int8.tflite")
    facts = run_in("litert", {"int8": Call("inspect-tflite", {"model": path})})["int8"].facts
    fixed = [one | {"shape": [1, *one["shape"][1:]]} for one in facts["inputs"]]
    return Source(path, fixed, facts["outputs"])


def format_of(source: str) -> Format:
    return QUANTIZED.get(source) or Format(source)


def source_names() -> list[str]:
    """List what can be submitted: the formats with an inspector, and what is told apart from them."""
    formats = [fmt for fmt in Format if catalog.catalogue().of_kind(Kind.INSPECT, source=fmt) is not None]
    return [*map(str, formats), *QUANTIZED]


def artifact_formats() -> list[Format]:
    """List the formats that some runtime opens."""
    opened = {fmt for formats in catalog.catalogue().accepts.values() for fmt in formats}
    return [fmt for fmt in Format if fmt in opened]


def transforms() -> dict[str, StageSpec]:
    """List the transforms; other tests may have registered stages of their own by now, and those are called so."""
    specs = catalog.catalogue().specs
    return {name: s for name, s in specs.items() if s.kind in TRANSFORMS and not name.startswith("test-")}


def routes(source: str, artifact: Format, recipe: str) -> list[Route]:
    return choose(find_routes(format_of(source), (artifact,), recipe, transforms().values()))


@cache
def addresses() -> tuple[tuple[str, Format, str], ...]:
    return tuple(itertools.product(source_names(), artifact_formats(), RECIPES))


def without_route(source: str, artifact: Format, recipe: str) -> str:
    """Say why no chain of stages makes a cell."""
    if not any(spec.recipe == recipe for spec in transforms().values()) and recipe != BASELINE:
        return f"no stage applies {recipe}"
    if routes(source, artifact, BASELINE):
        return f"no stage applies {recipe} on a way to {artifact}"
    return f"no chain of stages leads from {source} to {artifact}"


@dataclass
class Run:
    """What every beginning of a route came to."""

    answers: dict[Prefix, Answer] = field(default_factory=dict)
    facts: dict[str, ModelFacts] = field(default_factory=dict)

    def everything(self) -> list[Cell]:
        self._inspect()
        while wanted := self._wanted():
            self._run(wanted)
        return [self._cell(*address) for address in addresses()]

    def _inspect(self) -> None:
        by_environment: dict[str, dict[str, Call]] = {}
        for source, model in sources().items():
            spec = catalog.catalogue().of_kind(Kind.INSPECT, source=format_of(source))
            assert spec is not None
            by_environment.setdefault(spec.environment, {})[source] = Call(spec.name, {"model": model.path})
        for environment, group in by_environment.items():
            for source, answer in run_in(environment, group).items():
                self.facts[source] = decode(ModelFacts, answer.facts)

    def _wanted(self) -> dict[Prefix, StageSpec]:
        """List the stages that can run now and some cell still waits for."""
        wanted: dict[Prefix, StageSpec] = {}
        for source, artifact, recipe in addresses():
            for route in self._allowed(source, artifact, recipe):
                state = self._next(source, route)
                if isinstance(state, StageSpec):
                    done = len(self._done(source, route))
                    wanted[source, route.names[: done + 1]] = state
                    break
                if state is None:
                    break
        return wanted

    def _allowed(self, source: str, artifact: Format, recipe: str) -> Iterator[Route]:
        if source in sources():
            yield from (r for r in routes(source, artifact, recipe) if self._refusal(source, r, recipe) is None)

    def _refusal(self, source: str, route: Route, recipe: str) -> str | None:
        """Ask every stage's check, as a plan does."""
        for spec in route.stages:
            told = {"recipe": recipe} if spec.asks("recipe") else {}
            verdict = spec.verdict(self.facts[source], {}, spec.options(**told))
            if not verdict.can:
                return f"{spec.name}: {verdict.reason}"
        return None

    def _done(self, source: str, route: Route) -> list[Answer]:
        found = (self.answers.get((source, route.names[:end])) for end in range(1, len(route.names) + 1))
        return [answer for answer in itertools.takewhile(lambda one: one is not None, found) if answer]

    def _next(self, source: str, route: Route) -> StageSpec | str | None:
        """Give the stage to run next, the failure's text, or None when the route is through."""
        done = self._done(source, route)
        if done and "failure" in done[-1].result:
            failure = done[-1].failure
            return f"{route.names[len(done) - 1]}: {failure['code']}: {failure['message']}"
        return route.stages[len(done)] if len(done) < len(route.stages) else None

    def _run(self, wanted: dict[Prefix, StageSpec]) -> None:
        by_environment: dict[str, list[Prefix]] = {}
        for prefix, spec in wanted.items():
            by_environment.setdefault(spec.environment, []).append(prefix)
        batches = [
            (environment, prefixes[at : at + CALLS_PER_PROCESS])
            for environment, prefixes in by_environment.items()
            for at in range(0, len(prefixes), CALLS_PER_PROCESS)
        ]
        with ThreadPoolExecutor(2) as pool:
            for found in pool.map(lambda batch: self._batch(*batch), batches):
                self.answers |= found

    def _batch(self, environment: str, prefixes: list[Prefix]) -> dict[Prefix, Answer]:
        keys = {prefix: self._key(*prefix) for prefix in prefixes}
        new = {key: self._call(*prefix) for prefix, key in keys.items() if kept(key) is None}
        answers = answer_all(environment, new)
        found = {prefix: answers.get(key) or kept(key) for prefix, key in keys.items()}
        return {prefix: answer for prefix, answer in found.items() if answer is not None}

    def _key(self, source: str, names: tuple[str, ...]) -> str:
        before = self._key(source, names[:-1]) if len(names) > 1 else source
        return key_of(transforms()[names[-1]], before, sources()[source].options)

    def _call(self, source: str, names: tuple[str, ...]) -> Call:
        spec, given = transforms()[names[-1]], sources()[source]
        before = self.answers.get((source, names[:-1]))
        files = {"model": before.output("model") if before else given.path}
        if "calibration" in spec.inputs:
            files["calibration"] = calibration(given.inputs)
        return Call(spec.name, files, given.options, before.result["contract"] if before else None)

    def _cell(self, source: str, artifact: Format, recipe: str) -> Cell:
        cell = Cell(source, str(artifact), recipe, "refused", "")
        if source not in sources():
            return cell.told("failed", f"tests.transform_fixtures holds no model of source {source}")
        listed = routes(source, artifact, recipe)
        if not listed:
            return cell.told("refused", without_route(source, artifact, recipe), reachable=False)
        attempts: list[str] = []
        for route in listed:
            if (refusal := self._refusal(source, route, recipe)) is not None:
                attempts.append(refusal)
                continue
            failure = self._next(source, route)
            if failure is None:
                figures = [answer.facts.get("sqnr_db") for answer in self._done(source, route)]
                return cell.told("succeeded", " → ".join(route.names), sqnr_db=_lowest(figures), before=attempts)
            attempts.append(str(failure))
        failures = [self._failure(source, route) for route in self._allowed(source, artifact, recipe)]
        return cell.told("refused" if disproves_nothing(failures) else "failed", "; ".join(dict.fromkeys(attempts)))

    def _failure(self, source: str, route: Route) -> Failure | None:
        done = self._done(source, route)
        told = done[-1].result.get("failure") if done else None
        return decode(Failure, told) if told else None


def disproves_nothing(failures: Sequence[Failure | None]) -> bool:
    """Tell whether a cell may still be filled elsewhere: no route was tried, or one lacks a tool that is not here.

    A tool that ran and then missed something was tried: that is a failure.
    """
    known = [failure for failure in failures if failure is not None]
    return not known or any(one.code == EnvironmentMissing.code and not is_of_a_tool(one) for one in known)


def _lowest(figures: list[Any]) -> float | None:
    """Give the lowest figure of a route; None for a model that is taken as it is."""
    known = [float(figure) for figure in figures if figure is not None]
    return min(known) if known else None


def stages() -> list[str]:
    return [f"{name} {spec.version}" for name, spec in sorted(transforms().items())]


def write(path: Path = DOCUMENT) -> list[Cell]:
    cells = Run().everything()
    path.write_text(page(cells, stages()), encoding="utf-8")
    return cells


if __name__ == "__main__":
    write()
