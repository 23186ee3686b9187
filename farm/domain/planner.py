"""Make a plan, or all the reasons against it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from farm.domain.branches import DEFAULT_METRIC, Row, Steps
from farm.domain.catalogue import Target, near_misses
from farm.domain.errors import Failure, FarmError, Incompatible, NoLiveHost, UnknownName
from farm.domain.facts import TensorSpec
from farm.domain.inputs import batch_fixed, check_arrays, fix_inputs
from farm.domain.plan import Plan, PlannedResult
from farm.domain.recipe import BASELINE, RECIPES
from farm.domain.routes import find_routes
from farm.domain.wanted import Reason, Submitted, Wanted, World

LABEL_FREE_METRICS = ("agreement",)
"""Metrics that hold an artifact against the source's outputs instead of labels."""


def request_reasons(wanted: Wanted, world: World) -> list[Reason]:
    """Find what is wrong with the request itself, before any file is read."""
    errors: list[FarmError] = [
        Incompatible(
            f"This farm does not answer {name} yet: it runs the recipes that are named, and reports all of them.",
            remedy=f"Leave {name} out, name the recipes, and choose from the report.",
        )
        for name in wanted.unanswered
    ]
    known_runtimes = set(world.catalogue.accepts) | {r for t in world.targets.values() for r in t.runtimes}
    errors += [_unknown("target", name, world.targets) for name in wanted.targets if name not in world.targets]
    errors += [
        _unknown("runtime", name, known_runtimes) for name in wanted.runtimes or () if name not in known_runtimes
    ]
    errors += [_unknown("recipe", name, RECIPES) for name in wanted.recipes if name not in RECIPES]
    for name in wanted.targets:
        if name in world.targets:
            errors += _target_errors(wanted, world.targets[name], world, known_runtimes)
    return [Reason(error.failure) for error in errors]


def make_plan(wanted: Wanted, models: Sequence[Submitted], world: World) -> Plan | list[Reason]:
    """Plan every model x target x runtime x recipe.

    Returns: the plan, or all reasons when the request is wrong or no model can be planned. A model that can't, among
    others that can, gets results that say so.
    """
    if reasons := request_reasons(wanted, world):
        return reasons
    builder = _Builder(wanted, world)
    refused: list[Reason] = []
    for model in models:
        errors = builder.add(model)
        refused += [Reason(failure, model.name) for failure in errors]
    if all(result.failure is not None for result in builder.results):
        return refused
    used = {key for result in builder.results for branch in result.branches for key in branch.steps}
    return Plan({key: step for key, step in builder.steps.by_key.items() if key in used}, tuple(builder.results))


def _unknown(what: str, name: str, known: Collection[str]) -> FarmError:
    return UnknownName(
        f"There is no {what} {name!r}: {near_misses(name, known)}",
        remedy=f"See `farm {what}s`." if what == "target" else None,
    )


def _target_errors(wanted: Wanted, target: Target, world: World, known_runtimes: Collection[str]) -> list[FarmError]:
    errors: list[FarmError] = [
        Incompatible(
            f"Target {target.name} does not run {name}; it runs {', '.join(sorted(target.runtimes)) or 'nothing'}."
        )
        for name in wanted.runtimes or ()
        if name in known_runtimes and name not in target.runtimes
    ]
    serving = [host for host in world.hosts if f"target.{target.name}" in host.serves]
    if not serving:
        alive = ", ".join(
            sorted({q.removeprefix("target.") for h in world.hosts for q in h.serves if q.startswith("target.")})
        )
        errors.append(
            NoLiveHost(
                f"No live host serves target {target.name}; alive are hosts of {alive or 'no profile'}.",
                remedy=f"Run `farm worker --profile {target.name}` on such a machine, or name another target.",
            )
        )
    return errors


class _Builder:
    """Collect steps and results."""

    def __init__(self, wanted: Wanted, world: World) -> None:
        self.wanted = wanted
        self.world = world
        self.steps = Steps(wanted, world)
        self.results: list[PlannedResult] = []

    def add(self, model: Submitted) -> list[Failure]:
        """Plan one model; on failure its results carry the first reason, and all are returned."""
        failures = list(model.failures)
        fixed: tuple[TensorSpec, ...] = ()
        if model.facts is not None and not failures:
            fixed, errors = fix_inputs(model.facts.inputs, model.given)
            errors = errors or self._data_errors(model, fixed)
            failures = [error.failure for error in errors]
        context = _Context(self, model, fixed)
        before = len(self.results)
        for name in self.wanted.targets:
            target = self.world.targets[name]
            for runtime in self.wanted.runtimes or sorted(target.runtimes):
                self._add_row(context, target, runtime, failures)
        mine = self.results[before:]
        if mine and not failures and all(result.failure for result in mine):
            failures = [result.failure for result in mine if result.failure]
        return failures

    def _add_row(self, context: _Context, target: Target, runtime: str, failures: list[Failure]) -> None:
        """Add one result per recipe; float32 goes first, since the others are held against it.

        One that nobody asked for is not listed, and not planned at all when nothing would be held against it.
        """
        if failures:
            self.results += [
                context.failed(target, runtime, r, failures[0]) for r in self._recipes(self.wanted.recipes)
            ]
            return
        row = [context.result(target, runtime, recipe) for recipe in self._recipes((BASELINE, *self.wanted.recipes))]
        first, listed = len(self.results), BASELINE in self.wanted.recipes
        if not listed and all(result.failure for result in row[1:]):
            self.results += row[1:]
            return
        self.results.append(replace(row[0], listed=listed))
        self.results += [replace(result, baseline=first) for result in row[1:]]

    @staticmethod
    def _recipes(wanted: Sequence[str]) -> list[str]:
        """Name each recipe once, float32 first."""
        return sorted(dict.fromkeys(wanted), key=lambda recipe: recipe != BASELINE)

    def _data_errors(self, model: Submitted, fixed: tuple[TensorSpec, ...]) -> list[FarmError]:
        errors: list[FarmError] = []
        if model.calibration:
            errors += check_arrays(model.calibration_arrays, fixed, what="calibration")
        if model.evaluation:
            needs_labels = (model.metric or DEFAULT_METRIC) not in LABEL_FREE_METRICS
            errors += check_arrays(model.evaluation_arrays, fixed, what="evaluation", needs_labels=needs_labels)
        return errors


@dataclass(frozen=True, slots=True)
class _Context:
    """One model while its results are planned."""

    builder: _Builder
    model: Submitted
    fixed: tuple[TensorSpec, ...]

    def failed(self, target: Target, runtime: str, recipe: str, failure: Failure, **more: Any) -> PlannedResult:
        fmt = self.model.facts.format if self.model.facts else None
        return PlannedResult(
            self.model.name, target.name, runtime, recipe, fmt, (), failure=failure, inspect=self.model.inspect, **more
        )

    def result(self, target: Target, runtime: str, recipe: str) -> PlannedResult:
        """Plan all branches of one result; without any, say why."""
        facts = self.model.facts
        if facts is None:
            raise ValueError(f"{self.model.name} was not inspected")
        if RECIPES[recipe].needs_calibration and self.model.calibration is None:
            error = Incompatible(
                f"Recipe {recipe} needs calibration data, and {self.model.name} has none.",
                remedy="Add --calibration FILE.npz with samples in the tens, arrays by input name.",
            )
            return self.failed(target, runtime, recipe, error.failure)
        catalogue = self.builder.world.catalogue
        accepted = catalogue.accepts.get(runtime, ())
        routes = find_routes(facts.format, accepted, recipe, catalogue.specs.values())
        row = Row(self.builder.steps, self.model, self.fixed, target, runtime, recipe)
        branches, refused = row.branches(routes)
        if not branches:
            error = Incompatible(
                f"No route leads from {facts.format} to {runtime} with recipe {recipe} for {self.model.name}"
                + (": " + " ".join(refused) if refused else "."),
                remedy=f"See `farm routes --from {facts.format}`.",
            )
            return self.failed(target, runtime, recipe, error.failure, refused_routes=tuple(refused))
        return PlannedResult(
            self.model.name,
            target.name,
            runtime,
            recipe,
            facts.format,
            tuple(branches),
            inspect=self.model.inspect,
            changes=batch_fixed(facts.inputs, self.fixed),
            refused_routes=tuple(refused),
        )
