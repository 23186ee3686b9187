"""The format graph: which chains of stages lead from a source format to what a runtime accepts.

How routes rank: first those to the format that the runtime names first, then by the sum of their stages' costs, then
the shorter one, then by name, so that the order never depends on how stages were found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from farm.domain.facts import Format
from farm.domain.recipe import BASELINE, RECIPES
from farm.domain.stage import TRANSFORMS, Kind, StageSpec

LONGEST = 6
"""Stages in one route at most: hugging-face → exported program → ONNX → TFLite, one more, then quantize and compile."""
EDGES = "optimize-onnx-edges"
"""The stage that gives an ONNX model other inputs and outputs; a job asks for it by its options."""
KEEP_EDGES = (Format.ONNX, Format.ORT, Format.OPENVINO_IR)
"""Formats whose files have the inputs and outputs of the ONNX model they are made of."""
COMPILED = "compiled"
"""The role of what several models were compiled to, for the stage that takes one's share of it."""
MOST_BRANCHES = 4
"""Routes of one result that are tried in turn."""


@dataclass(frozen=True, slots=True)
class Route:
    """A chain of stages, first to last; empty when the source itself is accepted.

    `preference` is the place of its last format among those the runtime accepts.
    """

    stages: tuple[StageSpec, ...]
    preference: int = 0

    @property
    def rank(self) -> tuple[int, int, int, tuple[str, ...]]:
        return self.preference, sum(spec.cost for spec in self.stages), len(self.stages), self.names

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.stages)

    @property
    def float_names(self) -> tuple[str, ...]:
        """Name the part of the route before the recipe: what it shares with the float32 result."""
        return tuple(spec.name for spec in self.stages if spec.recipe is None)


def find_routes(source: Format, accepts: Sequence[Format], recipe: str, specs: Iterable[StageSpec]) -> list[Route]:
    """List every route without detours, best first.

    A route applies its recipe exactly once; `float32` needs no stage for it. After the recipe only compilers follow: a
    converter gives a quantized model back as float32 (a pruned one stays what it is). No format is visited twice, but
    for the stage that applies the recipe, and no route goes on from an accepted format to one that the runtime likes
    less.

    Args:
        source: the submitted model's format.
        accepts: what the runtime opens, the format it likes best first.
        recipe: the recipe's name.
        specs: every stage there is.
    """
    edges = [s for s in specs if _is_edge(s) and s.recipe in (None, recipe)]
    walk = _Walk(edges, {fmt: place for place, fmt in enumerate(accepts)})
    start = (source, recipe == BASELINE)
    return sorted(walk.on(start, (), frozenset({start}), len(accepts)), key=lambda route: route.rank)


def _is_edge(spec: StageSpec) -> bool:
    """Tell whether a stage makes another format of one model's file: of what several became, no chain leads on."""
    return (
        spec.kind in TRANSFORMS and spec.source is not None and spec.target is not None and COMPILED not in spec.inputs
    )


def with_edges(route: Route, source: Format, spec: StageSpec) -> Route | None:
    """Put the stage that changes edges behind the last ONNX file of a route; None where its end would not keep them.

    Args:
        route: from `source` on.
        source: the submitted model's format.
        spec: that stage.
    """
    made = [source, *(one.target for one in route.stages)]
    if Format.ONNX not in made or made[-1] not in KEEP_EDGES:
        return None
    place = len(made) - 1 - made[::-1].index(Format.ONNX)
    return Route((*route.stages[:place], spec, *route.stages[place:]), route.preference)


def choose(routes: Sequence[Route]) -> list[Route]:
    """Choose the routes to try of a ranked list: the best ones.

    When a stage is part of all of these, the last place goes to the route that avoids the most of such stages, so that
    one tool's failure leaves a way where there is one.
    """
    kept, others = list(routes[:MOST_BRANCHES]), routes[MOST_BRANCHES:]
    shared = set[str]().union(*(route.names for route in kept)).intersection(*(route.names for route in kept))
    freest = max(others, key=lambda route: len(shared.difference(route.names)), default=None)
    if freest is not None and shared.difference(freest.names):
        kept[-1] = freest
    return kept


State = tuple[Format, bool]
"""A format, and whether the recipe was applied."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """The way through the graph: its edges, and the place of every accepted format."""

    edges: Sequence[StageSpec]
    places: dict[Format, int]

    def on(self, at: State, path: tuple[StageSpec, ...], seen: frozenset[State], bound: int) -> Iterator[Route]:
        """Yield the routes that begin with `path` and end at a place before `bound`."""
        fmt, applied = at
        place = self.places.get(fmt, bound) if applied else bound
        if place < bound:
            yield Route(path, place)
        bound = min(bound, place)
        if len(path) == LONGEST or bound == 0:
            return
        for spec in self.edges:
            after = (spec.target, applied or spec.recipe is not None)
            if spec.source == fmt and spec.target and after not in seen and _may_follow(spec, path, applied=applied):
                yield from self.on((spec.target, after[1]), (*path, spec), seen | {(spec.target, after[1])}, bound)


def _may_follow(spec: StageSpec, path: tuple[StageSpec, ...], *, applied: bool) -> bool:
    """Keep the recipe to one stage, with nothing but compilers behind it unless its model stays a float one."""
    if applied and spec.recipe is not None:
        return False
    recipes = [RECIPES.get(before.recipe) for before in path if before.recipe is not None]
    return spec.kind is Kind.COMPILE or all(recipe is not None and recipe.stays_float for recipe in recipes)
