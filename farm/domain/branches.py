"""Make the branches of a result: every route as steps, with what they are compared, scored and measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from farm.domain.artifact import Artifact
from farm.domain.binding import bind, reproduction_step
from farm.domain.catalogue import Target
from farm.domain.data import CHOSEN_BY, Part, reports
from farm.domain.errors import EnvironmentMissing
from farm.domain.facts import ModelFacts, TensorSpec
from farm.domain.goal import least_sqnr_db
from farm.domain.metric import DEFAULT_METRIC, LABEL_FREE_METRICS
from farm.domain.plan import SOURCE, Branch, Check, Input, Layers, PlannedStep
from farm.domain.recipe import BASELINE
from farm.domain.routes import EDGES, Route, choose, with_edges
from farm.domain.stage import Kind, StageSpec
from farm.domain.tuning import tuned_by
from farm.domain.wanted import Submitted, Wanted, World

PROBE = {"short": True, "min_runs": 20, "min_s": 0.3, "max_s": 10.0}
"""Options of a short measurement: enough to tell which half of several candidates is the faster one."""


@dataclass(slots=True)
class Steps:
    """The steps of a plan while it is made; equal keys become one step."""

    wanted: Wanted
    world: World
    by_key: dict[str, PlannedStep] = field(default_factory=dict)

    def add(
        self, spec: StageSpec, inputs: tuple[Input, ...], options: Any, *, target: Target | None, title: str
    ) -> str:
        """Add a step unless its key is there; return the key.

        Raises:
            EnvironmentMissing: no live host can run it.
        """
        planned = bind(spec, inputs, options, world=self.world, target=target, title=title, wanted=self.wanted)
        self.by_key.setdefault(planned.key, planned)
        return planned.key

    def add_reproduction(self, spec: StageSpec, failing: str, *, model: str) -> str:
        """Add the step that shrinks the model of another step's failure; return its key."""
        planned = reproduction_step(spec, self.by_key[failing], model=model)
        self.by_key.setdefault(planned.key, planned)
        return planned.key

    def run_after(self, key: str, earlier: str) -> None:
        """Have a step wait for another one whose outputs it does not read."""
        step = self.by_key[key]
        self.by_key[key] = replace(step, after=tuple(dict.fromkeys((*step.after, earlier))))


@dataclass(frozen=True, slots=True)
class Row:
    """One result while its branches are made: a model on a target under a runtime by a recipe."""

    steps: Steps
    model: Submitted
    facts: ModelFacts
    fixed: tuple[TensorSpec, ...]
    target: Target
    runtime: str
    recipe: str

    def branches(self, routes: Sequence[Route]) -> tuple[list[Branch], list[str]]:
        """Make a branch of every route to be tried, best first, and tell why the others are none."""
        able, refused = self._able([self._edged(route) for route in routes])
        kept = choose(list(able))
        if left := [route for route in able if route not in kept]:
            refused.append(
                f"{len(left)} more {'routes lead' if len(left) > 1 else 'route leads'} there and "
                f"{'are' if len(left) > 1 else 'is'} not tried after these {len(kept)}: "
                + "; ".join(" → ".join(route.names) for route in left)
            )
        return [able[route] for route in kept], refused

    def _able(self, routes: Sequence[Route]) -> tuple[dict[Route, Branch], list[str]]:
        """Plan the routes that all their stages agree to."""
        able, refused = {}, []
        for route in routes:
            refusal = self._refusal(route)
            if refusal is None:
                try:
                    able[route] = self._branch(route)
                except EnvironmentMissing as error:
                    refusal = error.message
            if refusal is not None:
                refused.append(f"{' → '.join(route.names) or 'as it is'}: {refusal}")
        return able, refused

    @property
    def _edges(self) -> StageSpec | None:
        """Give the stage that changes inputs and outputs, where the job asks for that."""
        return self.steps.world.catalogue.specs.get(EDGES) if EDGES in self.steps.wanted.options else None

    def _edged(self, route: Route) -> Route:
        return (self._edges and with_edges(route, self.facts.format, self._edges)) or route

    @property
    def _specs(self) -> dict[str, Any]:
        ranges = self.facts.extra.get("ranges") or None
        return {"input_specs": self.fixed, "output_specs": self.facts.outputs, "ranges": ranges}

    def _options(self, spec: StageSpec, **told: Any) -> Any:
        """Fill in a stage's options: the tensors, the recipe where the stage asks for it, and what is told."""
        recipe = {"recipe": self.recipe} if spec.asks("recipe") else {}
        return spec.options(**self._specs, **recipe, **told, **tuned_by(spec, self.steps.wanted.options))

    def _refusal(self, route: Route) -> str | None:
        """Ask every stage of a route whether it can."""
        if self._edges is not None and self._edges not in route.stages:
            return "inputs and outputs can be changed of ONNX files alone, and of ORT and OpenVINO files made of them."
        for spec in route.stages:
            profile = {name: self.target.read(name) for name in spec.reads}
            verdict = spec.verdict(self.facts, profile, self._options(spec))
            if not verdict.can:
                return verdict.reason or f"{spec.name} can't."
        return None

    def _branch(self, route: Route) -> Branch:
        made = self._transforms(route)
        at = made[-1]
        part = self._part(route)
        samples = self._reference(
            self.model.evaluation or self.model.calibration, 8, selects=self._selects(route), **part
        )
        reference = Input("samples", step=samples, output="samples")
        compare = self._on_target(Kind.COMPARE, (at, reference))
        checks, layers = self._checks(route, made, reference, compare), self._layers(route, made, reference)
        measuring = self.steps.wanted.measuring.options(self.target.threads)
        measure = self._on_target(Kind.MEASURE, (at,), **measuring)
        short = {"threads": measuring["threads"], **PROBE}
        probe = self._on_target(Kind.MEASURE, (at,), **short) if self._is_tried else None
        evaluate: str | None = None
        evaluation: tuple[str, ...] = ()
        scoring = self.model.evaluation or (self.model.calibration if self._agreement_is_asked else None)
        if scoring is not None:
            scored = self._reference(
                scoring, 100_000, selects=self._agreement_is_asked and self._selects(route), **part
            )
            given = (at, Input("evaluation", step=scored, output="samples"))
            evaluate = self._on_target(Kind.EVALUATE, given, metric=self.model.metric or DEFAULT_METRIC)
            evaluation = (scored, evaluate)
        for key in filter(None, (measure, evaluate, probe)):
            self.steps.run_after(key, compare)
        transforms = [given.step for given in made if given.step]
        checked = [look.step for look in (*checks, *((layers,) if layers else ())) if look.step]
        ordered = (*transforms, samples, *checked, compare, *evaluation, *((probe,) if probe else ()), measure)
        return Branch(
            route.names,
            route.float_names,
            tuple(dict.fromkeys(ordered)),
            at,
            compare,
            measure,
            evaluate,
            format=route.stages[-1].target if route.stages else self.facts.format,
            compared_on=self._compared_on(route),
            checks=checks,
            reproductions=self._reproductions(route, transforms),
            probe=probe,
            layers=layers,
        )

    @property
    def _is_tried(self) -> bool:
        """Tell whether the farm tries this of its own accord, and may give it up."""
        return self.recipe in self.steps.wanted.searched

    def _compared_on(self, route: Route) -> str:
        if self.model.evaluation:
            return "evaluation"
        if self.model.calibration:
            return "report" if self._part(route) else "calibration"
        return "seeded"

    @property
    def _agreement_is_asked(self) -> bool:
        """Tell whether samples without labels are to be scored."""
        return self.model.metric in LABEL_FREE_METRICS

    def _part(self, route: Route) -> dict[str, str]:
        """Choose the calibration samples that are compared: those of the report, where all stages leave them out."""
        return {"part": Part.REPORT.value} if self._reports and self._leaves_out(route) else {}

    def _selects(self, route: Route) -> bool:
        """Tell whether the farm chooses, and does so by samples that neither calibrate nor are reported on."""
        parted = self.model.calibration is not None and (self._reports or self.model.evaluation is not None)
        return self.steps.wanted.chooses and parted and self._leaves_out(route)

    @staticmethod
    def _leaves_out(route: Route) -> bool:
        """Tell whether all stages of a route calibrate on their own part of the samples alone."""
        return all(spec.asks("reports") for spec in route.stages if "calibration" in spec.inputs)

    @property
    def _reports(self) -> bool:
        """Tell whether a part of the calibration data is kept for the report."""
        evaluated = self.model.evaluation is not None
        given = self.model.calibration is not None
        return given and reports(self.model.calibration_arrays, self.fixed, evaluated=evaluated)

    def _transforms(self, route: Route) -> list[Input]:
        """Chain the stages of a route: the source, then what each of them makes."""
        made = [Input("model", artifact=self.model.artifact)]
        for spec in route.stages:
            data = tuple(Input(role, artifact=self.model.calibration) for role in spec.inputs if role == "calibration")
            told = {"reports": self._reports} if data and spec.asks("reports") else {}
            made.append(Input("model", step=self._step(spec, (made[-1], *data), **told, **self._enough(spec))))
        return made

    def _enough(self, spec: StageSpec) -> dict[str, float]:
        """Tell a stage that trades fidelity for speed which SQNR the job asks for."""
        least_db = least_sqnr_db(self.steps.wanted.constraints) if spec.asks("enough_db") else None
        return {} if least_db is None else {"enough_db": least_db}

    def _checks(self, route: Route, made: Sequence[Input], reference: Input, compare: str) -> tuple[Check, ...]:
        """Compare what every stage makes with the source on a build host.

        Where the one host that builds also is the target's, the comparison there is the last of them, and those before
        it may be other results': run twice they would say the same.
        """
        checks, recipe = [], BASELINE
        for spec in route.stages:
            recipe = spec.recipe or recipe
            checks.append(Check(spec.name, spec.target, recipe))
        checks = checks or [Check(SOURCE, self.facts.format, self.recipe)]
        files = made[1:] or made
        there = self._builds_there(compare)
        last = [replace(checks.pop(), runtime=self.runtime, step=compare)] if there else []
        return (*(self._check(*one, reference, there=there) for one in zip(checks, files, strict=False)), *last)

    def _builds_there(self, compare: str) -> bool:
        """Tell whether the target's one live host is the only one that builds, and nothing tests that host."""
        world, queue = self.steps.world, self.steps.by_key[compare].queue
        spec = world.catalogue.of_kind(Kind.COMPARE, runtime=self.runtime)
        built = world.catalogue.queue_for(spec, None, world.hosts, None) if spec else None
        there = {host.name for host in world.hosts if queue in host.serves}
        builders = {host.name for host in world.hosts if built in host.serves}
        return len(there) == 1 and there == builders and not self.steps.wanted.tests_host

    def _reproductions(self, route: Route, transforms: Sequence[str]) -> dict[str, str]:
        """Plan what shrinks the model of every stage that reads a format for which there is such a stage."""
        found = {}
        for spec, key in zip(route.stages, transforms, strict=True):
            minimizer = self.steps.world.catalogue.of_kind(Kind.MINIMIZE, source=spec.source)
            if minimizer is not None:
                found[key] = self.steps.add_reproduction(minimizer, key, model=self.model.name)
        return found

    def _check(self, check: Check, artifact: Input, reference: Input, *, there: bool) -> Check:
        """Plan a comparison under a runtime that opens the format, the target's own before others.

        With `there` that one runs on the target's host, as its results' own comparisons do.
        """
        catalogue = self.steps.world.catalogue
        openers = catalogue.openers(check.format) if check.format else []
        reasons = []
        for runtime in sorted(openers, key=lambda name: name != self.runtime):
            spec = catalogue.of_kind(Kind.COMPARE, runtime=runtime)
            if spec is None:
                continue
            title = f"{spec.name} · {self.model.name} after {check.stage}"
            given, options = (artifact, reference), spec.options(**self._specs)
            try:
                target = self.target if there and runtime == self.runtime else None
                key = self.steps.add(spec, given, options, target=target, title=title)
                return replace(check, runtime=runtime, step=key)
            except EnvironmentMissing as error:
                reasons.append(error.message)
        why = " ".join(reasons) or f"no deployable runtime here opens {check.format}."
        return replace(check, not_checked=f"not checked: {why}")

    def _layers(self, route: Route, made: Sequence[Input], reference: Input) -> Layers | None:
        """Plan the comparison of what quantizes with its own input, layer by layer; None where nothing quantizes."""
        for spec, before, after in zip(route.stages, made, made[1:], strict=False):
            if spec.kind is Kind.QUANTIZE:
                return self._traced(spec, (after, before.as_("float"), reference))
        return None

    def _traced(self, quantizer: StageSpec, given: tuple[Input, ...]) -> Layers:
        layers, fmt = Layers(quantizer.name), quantizer.target
        if fmt != quantizer.source:
            why = f"{quantizer.name} quantizes while it converts, so no float {fmt} file stands beside its own."
            return replace(layers, not_compared=why)
        spec = self.steps.world.catalogue.of_kind(Kind.TRACE, source=fmt)
        if spec is None:
            return replace(layers, not_compared=f"no stage reads the inner tensors of {fmt}.")
        title, options = f"{spec.name} · {self.model.name} after {quantizer.name}", spec.options(**self._specs)
        verdict = spec.verdict(self.facts, {}, options)
        if not verdict.can:
            return replace(layers, not_compared=verdict.reason)
        try:
            step = self.steps.add(spec, given, options, target=None, title=title)
        except EnvironmentMissing as error:
            return replace(layers, not_compared=error.message)
        return replace(layers, step=step)

    def _reference(self, data: Artifact | None, count: int, *, selects: bool, **part: str) -> str:
        source = self.facts.format
        spec = self.steps.world.catalogue.of_kind(Kind.REFERENCE, source=source)
        if spec is None:
            raise EnvironmentMissing(f"No stage runs a source of format {source}.")
        given = [Input("model", artifact=self.model.artifact), *([Input("samples", artifact=data)] if data else [])]
        if selects and self.model.evaluation is not None:
            given.append(Input(CHOSEN_BY, artifact=self.model.calibration))
        return self._step(spec, tuple(given), samples=count, **part, **({"selects": True} if selects else {}))

    def _on_target(self, kind: Kind, inputs: tuple[Input, ...], **options: Any) -> str:
        spec = self.steps.world.catalogue.of_kind(kind, runtime=self.runtime)
        if spec is None:
            raise EnvironmentMissing(f"No stage can {kind} under {self.runtime}.")
        return self._step(spec, inputs, **options)

    def _step(self, spec: StageSpec, inputs: tuple[Input, ...], **options: Any) -> str:
        title = f"{spec.name} · {self.model.name} → {self.target.name} · {self.recipe}"
        return self.steps.add(spec, inputs, self._options(spec, **options), target=self.target, title=title)
