"""Make a plan, or all the reasons against it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from farm.domain.branches import Row, Steps
from farm.domain.catalogue import Target, near_misses
from farm.domain.data import already_quantized, calibration_missing, data_errors, data_free_note, data_notes
from farm.domain.errors import Failure, FarmError, Incompatible, NoLiveHost, UnknownName
from farm.domain.facts import Format, TensorSpec
from farm.domain.goal import OBJECTIVES, Goal, goal_errors, usual_goal
from farm.domain.inputs import batch_fixed, check_arrays, fix_inputs, within
from farm.domain.labels import classes_of, label_errors
from farm.domain.limits import too_large
from farm.domain.metric import DEFAULT_METRIC, LABEL_FREE_METRICS, METRICS
from farm.domain.plan import Branch, LeftOut, Plan, PlannedResult
from farm.domain.preprocessing import value_ranges
from farm.domain.recipe import BASELINE, RECIPES
from farm.domain.routes import find_routes
from farm.domain.search import without_needless_probes
from farm.domain.together import apart_errors, put_together, together_errors
from farm.domain.tuning import tuning_errors, unused
from farm.domain.wanted import Reason, Submitted, Wanted, World


def request_reasons(wanted: Wanted, world: World) -> list[Reason]:
    """Find what is wrong with the request itself, before any file is read."""
    errors = goal_errors(wanted.constraints, wanted.objective, unscored=wanted.unscored, metrics=wanted.metrics)
    known_runtimes = set(world.catalogue.accepts) | {r for t in world.targets.values() for r in t.runtimes}
    errors += [*wanted.measuring.errors(), *tuning_errors(wanted.options, world.catalogue)]
    errors += together_errors(wanted, world)
    errors += [_unknown("metric", name, METRICS) for name in wanted.metrics if name not in METRICS]
    errors += [_unknown("target", name, world.targets) for name in wanted.targets if name not in world.targets]
    errors += [
        _unknown("runtime", name, known_runtimes) for name in wanted.runtimes or () if name not in known_runtimes
    ]
    errors += [_unknown("recipe", name, RECIPES) for name in wanted.recipes if name not in RECIPES]
    formats = _formats(world)
    errors += [_unknown("artifact format", name, formats) for name in wanted.formats or () if name not in formats]
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
    if all(result.failure is not None for result in _asked(builder.results)):
        return refused
    planned = put_together(builder.results, builder.steps) if wanted.together else builder.results
    if wanted.together and (apart := apart_errors(builder.results, planned, builder.steps)):
        return [Reason(error.failure) for error in apart]
    results = without_needless_probes(planned, builder.goals)
    branches = [branch for result in results for branch in result.branches]
    used = {key for branch in branches for key in (*branch.steps, *branch.reproductions.values())}
    steps = {key: step for key, step in builder.steps.by_key.items() if key in used}
    return Plan(steps, results, tuple(builder.left_out), builder.goals)


def _asked(results: Sequence[PlannedResult]) -> list[PlannedResult]:
    """List the results that were asked for by name, since a search adds its own; all of them when none was."""
    named = [result for result in results if result.listed and not result.searched]
    return named or list(results)


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
    are_known = set(wanted.formats or ()) <= _formats(world)
    if not _runtimes_of(wanted, target, world) and are_known and not errors:
        errors += _formats_missed(wanted, target, world)
    serving = [host for host in world.hosts if f"target.{target.name}" in host.serves]
    if wanted.host is not None:
        errors += _host_errors(wanted.host, target, world)
    elif not serving:
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


def _host_errors(name: str, target: Target, world: World) -> list[FarmError]:
    """Say why the one host that was named can't serve a target."""
    host = next((one for one in world.hosts if one.name == name), None)
    if host is None:
        known = [one.name for one in world.hosts if f"target.{target.name}" in one.serves]
        return [
            NoLiveHost(
                f"No live host in rotation is called {name!r}: {near_misses(name, known)}",
                remedy="See `farm hosts`, or leave --host out to take any host of the target.",
            )
        ]
    if f"target.{target.name}" in host.serves:
        return []
    targets = ", ".join(q.removeprefix("target.") for q in host.serves if q.startswith("target."))
    return [Incompatible(f"Host {name} does not serve target {target.name}; it serves {targets or 'builds only'}.")]


def _formats(world: World) -> set[str]:
    """Name every format that some runtime takes."""
    return {fmt.value for accepted in world.catalogue.accepts.values() for fmt in accepted}


def _formats_missed(wanted: Wanted, target: Target, world: World) -> list[FarmError]:
    """Say that nothing a target runs takes a format that is asked for."""
    names = wanted.runtimes or sorted(target.runtimes)
    taken = "; ".join(f"{name} takes {', '.join(world.catalogue.accepts.get(name, ())) or 'none'}" for name in names)
    asked = ", ".join(wanted.formats or ())
    return [Incompatible(f"No runtime of {target.name} takes {asked or 'any format'}: {taken or 'it has none'}.")]


def _accepted(wanted: Wanted, runtime: str, world: World) -> tuple[Format, ...]:
    """Narrow what a runtime accepts to the formats that are asked for, in the runtime's order."""
    accepted = world.catalogue.accepts.get(runtime, ())
    return tuple(fmt for fmt in accepted if wanted.formats is None or fmt in wanted.formats)


def _runtimes_of(wanted: Wanted, target: Target, world: World) -> list[str]:
    """Name the runtimes of a target that get rows: as asked for, less those that take no format that is asked for."""
    names = wanted.runtimes or sorted(target.runtimes)
    return [name for name in names if wanted.formats is None or _accepted(wanted, name, world)]


class _Builder:
    """Collect steps and results."""

    def __init__(self, wanted: Wanted, world: World) -> None:
        self.wanted = wanted
        self.world = world
        self.steps = Steps(wanted, world)
        self.results: list[PlannedResult] = []
        self.left_out: list[LeftOut] = []

    def add(self, model: Submitted) -> list[Failure]:
        """Plan one model; on failure its results carry the first reason, and all are returned."""
        failures = list(model.failures)
        fixed: tuple[TensorSpec, ...] = ()
        if model.facts is not None and not failures:
            facts = within(model.facts, model.given, prepared=value_ranges(model.preprocessing))
            model = replace(model, facts=facts)
            fixed, errors = fix_inputs(facts.inputs, [one.spec for one in model.given])
            errors = errors or self._data_errors(model, fixed)
            failures = [error.failure for error in errors]
        context = _Context(self, model, fixed)
        rows = [
            self._row(context, self.world.targets[name], runtime, failures)
            for name in self.wanted.targets
            for runtime in _runtimes_of(self.wanted, self.world.targets[name], self.world)
        ]
        asked = [result for row in rows for result in row if result.recipe in self.wanted.recipes]
        some = any(result.failure is None for result in asked)
        before = len(self.results)
        for row in (self._without_hopeless(row) for row in rows) if some else rows:
            self._place(self._without_unreachable(row) if some and self.wanted.runtimes is None else row)
        mine = _asked(self.results[before:])
        if mine and not failures and all(result.failure for result in mine):
            return [result.failure for result in mine if result.failure]
        return failures

    @property
    def goals(self) -> dict[str, Goal]:
        """Say what each model's results are chosen by; a search keeps its fidelity unless it is told how much."""
        goals: dict[str, Goal] = {}
        for model in dict.fromkeys(result.model for result in self.results) if self.wanted.chooses else ():
            mine = [branch for result in self.results if result.model == model for branch in result.branches]
            searches = any(recipe != BASELINE for recipe in self.wanted.searched)
            scored = any(branch.evaluate for branch in mine)
            told, objective = self.wanted.constraints, self.wanted.objective or OBJECTIVES[0]
            goals[model] = usual_goal(told, objective, scored=scored) if searches else Goal(told, objective)
        return goals

    def _without_hopeless(self, row: list[PlannedResult]) -> list[PlannedResult]:
        """Take out candidates that nothing leads to: nobody named their recipe, so they fail no job."""
        self.left_out += [
            LeftOut(one.model, one.target, one.target_runtime, one.recipe, one.failure.message)
            for one in row
            if one.searched and one.failure
        ]
        return [one for one in row if not (one.searched and one.failure)]

    def _row(self, context: _Context, target: Target, runtime: str, failures: Sequence[Failure]) -> list[PlannedResult]:
        """Plan one result per recipe; float32 goes first, since the others are held against it."""
        if failures:
            return [context.failed(target, runtime, r, failures[0]) for r in self._recipes(self.wanted.recipes)]
        return [
            replace(context.result(target, runtime, recipe), searched=recipe in self.wanted.searched)
            for recipe in self._recipes((BASELINE, *self.wanted.recipes))
        ]

    def _without_unreachable(self, row: list[PlannedResult]) -> list[PlannedResult]:
        """Take out what no chain of stages leads to: nobody asked for that runtime by name."""
        self.left_out += [
            LeftOut(one.model, one.target, one.target_runtime, one.recipe, one.failure.message)
            for one in row
            if not one.reachable and one.failure and one.recipe in self.wanted.recipes
        ]
        return [one for one in row if one.reachable]

    def _place(self, row: list[PlannedResult]) -> None:
        """Add a row to the plan.

        A baseline that nobody asked for is not listed, and not planned at all when nothing would be held against it.
        """
        listed = BASELINE in self.wanted.recipes
        others = [result for result in row if result.recipe != BASELINE]
        if not row or len(others) == len(row) or (not listed and all(result.failure for result in others)):
            self.results += others
            return
        first = len(self.results)
        self.results.append(replace(row[0], listed=listed))
        self.results += [replace(result, baseline=first) for result in others]

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
            outputs = model.facts.outputs if model.facts else ()
            errors += label_errors(model.metric or DEFAULT_METRIC, model.evaluation_arrays, outputs)
        if errors:
            return errors
        calibration = model.calibration_arrays if model.calibration and self._calibrates else None
        return [*data_errors(calibration, model.evaluation_arrays if model.evaluation else None, fixed)]

    @property
    def _calibrates(self) -> bool:
        return any(RECIPES[recipe].needs_calibration for recipe in self.wanted.recipes)


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
            missing = calibration_missing(recipe, self.model.name)
            error = already_quantized(recipe, self.model.name) if facts.is_quantized else missing
            return self.failed(target, runtime, recipe, error.failure)
        if (over := too_large(self.model, target, recipe)) is not None:
            return self.failed(target, runtime, recipe, over.failure)
        world = self.builder.world
        accepted = _accepted(self.builder.wanted, runtime, world)
        routes = find_routes(facts.format, accepted, recipe, world.catalogue.specs.values())
        row = Row(self.builder.steps, self.model, facts, self.fixed, target, runtime, recipe)
        branches, refused = row.branches(routes)
        if not branches:
            error = Incompatible(
                f"No route leads from {facts.format} to {runtime} with recipe {recipe} for {self.model.name}"
                + (": " + " ".join(refused) if refused else "."),
                remedy=f"See `farm routes --from {facts.format}`.",
            )
            told = {"refused_routes": tuple(refused), "reachable": bool(routes)}
            return self.failed(target, runtime, recipe, error.failure, **told)
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
            notes=(*self.notes, *data_free_note(recipe, self.notes), *self._idle(branches[0])),
            preprocessing=self.model.preprocessing,
        )

    def _idle(self, branch: Branch) -> list[str]:
        """Say which of the job's options the stages of a route do not have."""
        specs = self.builder.world.catalogue.specs
        return unused([specs[name] for name in branch.route], self.builder.wanted.options)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what is poor about the model's data."""
        facts = self.model.facts
        ranges = (facts.extra.get("ranges") if facts else None) or {}
        classes = classes_of(facts.outputs) if facts else None
        given = (
            ("calibration", self.model.calibration, self.model.calibration_arrays),
            ("evaluation", self.model.evaluation, self.model.evaluation_arrays),
        )
        return tuple(
            note
            for what, file, arrays in given
            if file is not None
            for note in data_notes(arrays, self.fixed, what=what, ranges=ranges, classes=classes)
        )
