"""Which edges and chains of the format graph can be taken now, and the way out where one can't. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from farm import catalog
from farm.domain.catalogue import Catalogue, LiveHost, near_misses
from farm.domain.errors import Incompatible, UnknownName
from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.routes import Route, choose, find_routes
from farm.domain.stage import TRANSFORMS, StageSpec
from farm.wire.jobs import ChainView, RouteView

ENDING_DOES = "A file or its ending does as well: `farm routes --from model.pt2 --to litert`."


@dataclass(frozen=True, slots=True)
class Availability:
    """The catalogue and the hosts alive now.

    `pythons` names the interpreter that an environment needs, where that is not the worker's own.
    """

    catalogue: Catalogue
    hosts: Sequence[LiveHost]
    pythons: Mapping[str, str]

    def edges(self, source: str | None, target: str | None) -> list[RouteView]:
        """List the transforms as edges, of one source or to one target (a format, or a runtime's name) where named.

        Raises:
            UnknownName: no format or runtime is called so.
        """
        start = self._format(source) if source else None
        ends = self._accepted(target) if target else None
        found = [s for s in self.catalogue.specs.values() if s.kind in TRANSFORMS]
        return [
            self._edge(spec)
            for spec in sorted(found, key=lambda spec: (str(spec.source), str(spec.target), spec.cost, spec.name))
            if start in (None, spec.source) and (ends is None or spec.target in ends)
        ]

    def chains(self, source: str, target: str) -> list[ChainView]:
        """List the chains from a format to what a target takes, per recipe, ranked as the planner ranks them.

        Raises:
            UnknownName: no format or runtime is called so.
            Incompatible: nothing leads there by any recipe.
        """
        start, ends = self._format(source), self._accepted(target)
        found = [view for recipe in RECIPES for view in self._ranked(start, ends, recipe)]
        if not found:
            leads = sorted({str(s.target) for s in self.catalogue.specs.values() if s.source == start and s.target})
            raise Incompatible(
                f"No chain of stages leads from {source} to {target}; from {source} stages lead to "
                f"{', '.join(leads) or 'nothing'}.",
                remedy=f"See `farm routes --to {target}` for what leads there.",
            )
        return found

    def _ranked(self, start: Format, ends: Sequence[Format], recipe: str) -> Iterator[ChainView]:
        routes = find_routes(start, ends, recipe, self.catalogue.specs.values())
        able = [route for route in routes if self._missing(route) is None]
        tried = choose(able) if able else []
        for place, route in enumerate(routes, 1):
            yield ChainView(
                recipe=recipe,
                place=place,
                stages=list(route.names),
                format=str(route.stages[-1].target if route.stages else start),
                available=route in able,
                tried=route in tried,
                used=route == next(iter(tried), None),
                why_not=self._missing(route),
            )

    def _missing(self, route: Route) -> str | None:
        return next((f"{s.name}: {why[0]}" for s in route.stages if (why := self._why_not(s)) is not None), None)

    def _edge(self, spec: StageSpec) -> RouteView:
        pins, why = self.catalogue.pins.get(spec.environment, {}), self._why_not(spec)
        return RouteView(
            stage=spec.name,
            kind=spec.kind.value,
            source=spec.source,
            target=spec.target,
            recipe=spec.recipe,
            environment=spec.environment,
            tools={tool: pins.get(tool, "unknown") for tool in spec.tools},
            available=why is None,
            why_not=why[0] if why else None,
            way_out=why[1] if why else None,
            hosts=[host.name for host in self._builders() if self._has(host, spec.environment)],
        )

    def _why_not(self, spec: StageSpec) -> tuple[str, str] | None:
        """Say why no live host runs a stage, and the way out; None when one does."""
        if self.catalogue.queue_for(spec, None, self.hosts) is not None:
            return None
        builders, name = self._builders(), spec.environment
        if not builders:
            return "No live host builds.", "Start one: `farm worker --profile auto`."
        others = [host.name for host in builders if name in host.environments]
        install = f"`python -m workers.environments install {name}`"
        if others:
            why = f"Environment {name} on {', '.join(others)} is of another lock than this farm's."
            return why, f"Bring the host to this farm's version, run {install} there, and restart its worker."
        needed = f" It needs Python {self.pythons[name]} on the host." if name in self.pythons else ""
        why = f"Environment {name} is on no live build host ({', '.join(host.name for host in builders)}).{needed}"
        return why, f"Run {install} on one of them and restart its worker."

    def _builders(self) -> list[LiveHost]:
        return [host for host in self.hosts if any(queue.startswith("build.") for queue in host.serves)]

    def _has(self, host: LiveHost, environment: str) -> bool:
        return host.environments.get(environment) == self.catalogue.locks.get(environment, "")

    def _format(self, name: str) -> Format:
        found = _named(name)
        if found is None:
            raise UnknownName(f"No format is called {name!r}; {near_misses(name, list(Format))}", remedy=ENDING_DOES)
        return found

    def _accepted(self, name: str) -> tuple[Format, ...]:
        """Read a target: a runtime stands for what it opens, the format it likes best first."""
        if name in self.catalogue.accepts:
            return self.catalogue.accepts[name]
        found = _named(name)
        if found is None:
            known = [*map(str, Format), *self.catalogue.accepts]
            raise UnknownName(
                f"No format or runtime is called {name!r}; {near_misses(name, known)}", remedy=ENDING_DOES
            )
        return (found,)


def _named(name: str) -> Format | None:
    """Read a format's name, or a file's name or ending."""
    return Format(name) if name in list(Format) else catalog.by_ending(name)
