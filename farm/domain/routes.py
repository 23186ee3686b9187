"""The format graph: which chains of stages lead from a source format to what a runtime accepts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from farm.domain.facts import Format
from farm.domain.recipe import BASELINE
from farm.domain.stage import TRANSFORMS, Kind, StageSpec

LONGEST = 4
"""Stages in one route at most: export, convert, optimize, quantize or compile."""


@dataclass(frozen=True, slots=True)
class Route:
    """A chain of stages, first to last; empty when the source itself is accepted."""

    stages: tuple[StageSpec, ...]

    @property
    def cost(self) -> tuple[int, int]:
        return sum(spec.cost for spec in self.stages), len(self.stages)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.stages)

    @property
    def float_names(self) -> tuple[str, ...]:
        """Name the part of the route before the recipe: what it shares with the float32 result."""
        return tuple(spec.name for spec in self.stages if spec.recipe is None)


def find_routes(source: Format, accepts: Collection[Format], recipe: str, specs: Iterable[StageSpec]) -> list[Route]:
    """List every simple route, best first.

    A route applies its recipe exactly once; `float32` needs no stage for it. After the recipe only compilers follow: a
    converter gives a quantized model back as float32.
    """
    edges = [s for s in specs if s.kind in TRANSFORMS and s.source and s.target and s.recipe in (None, recipe)]
    found = _walk(source, recipe == BASELINE, (), edges, accepts, frozenset({(source, recipe == BASELINE)}))
    return sorted(found, key=lambda route: route.cost)


def _walk(
    at: Format,
    applied: bool,
    path: tuple[StageSpec, ...],
    edges: list[StageSpec],
    accepts: Collection[Format],
    seen: frozenset[tuple[Format, bool]],
) -> Iterator[Route]:
    if applied and at in accepts:
        yield Route(path)
        return
    if len(path) == LONGEST:
        return
    for spec in edges:
        after = (spec.target, applied or spec.recipe is not None)
        if spec.source != at or after in seen or not spec.target or (applied and spec.recipe):
            continue
        if all(before.recipe is None for before in path) or spec.kind is Kind.COMPILE:
            yield from _walk(spec.target, after[1], (*path, spec), edges, accepts, seen | {(spec.target, after[1])})
