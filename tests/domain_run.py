"""Run a plan without hosts: decisions are applied as control applies them, steps end as they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from farm.domain.conclusion import conclude
from farm.domain.decision import Decision, decide
from farm.domain.errors import Failure
from farm.domain.mixing import family_of, grown
from farm.domain.plan import Plan, PlannedStep
from farm.domain.progress import ENDED, Progress, StepPhase, StepState, branch_failure, gives_way
from tests.domain_world import file

Ends = StepState | Failure


def layer(tensor: str, sqnr_db: float) -> dict[str, Any]:
    return {
        "tensor": tensor,
        "operator": "Conv",
        "sqnr_db": sqnr_db,
        "cosine": 0.99,
        "max_abs_error": 0.1,
        "max_abs_value": 2.0,
        "clipped_share": 0.0,
    }


LAYERS = [layer("conv1", 40.0), layer("conv2", 12.5), layer("scores", 14.0)]


def numerics(sqnr_db: float | None = 120.0) -> dict[str, Any]:
    return {"sqnr_db": sqnr_db, "cosine": 1.0, "max_abs_error": 1e-6, "samples": 8}


def measured(
    median_us: float = 1000.0, *, valid: bool = True, emulated: bool = False, host: str = "one", **summary: Any
) -> dict[str, Any]:
    return {
        "execution_summary": {
            "estimated_inference_time": median_us,
            "p50": median_us,
            "p90": median_us * 1.1,
            "p99": None,
            "ci95": [median_us * 0.99, median_us * 1.01],
            "first_load_time": 5000.0,
            "all_inference_times": [[median_us, median_us * 1.1]] * 3,
            **summary,
        },
        "conditions": {
            "valid": valid and not emulated,
            "reasons": ["emulated"] if emulated else [] if valid else ["loaded"],
            "emulated": emulated,
            "host": host,
            "profile": "plain-box",
        },
    }


def facts_of(step: PlannedStep, *, sqnr_db: float | None = 120.0, **measurement: Any) -> dict[str, Any]:
    """Return what a step of a kind finds when it succeeds."""
    if step.kind == "compare":
        contract = {"inputs": [], "outputs": [], "contract_changes": ["output scores: float64 became float32"]}
        return {"numerics": numerics(sqnr_db), "artifact": contract}
    if step.kind == "evaluate":
        return {"accuracy": {"metric": "top1", "value": 0.97, "float_value": 0.97, "samples": 32}}
    if step.kind == "minimize":
        return {"nodes": 2, "original_nodes": 100, "signature": "conversion-failed: Loop", "attempts": 14}
    if step.kind == "trace":
        return {"layers": LAYERS, "note": None}
    return measured(**measurement) if step.kind == "measure" else {}


@dataclass
class Run:
    """A job under way: what the ledger would hold of it."""

    plan: Plan
    states: dict[str, StepState] = field(default_factory=dict)
    progress: list[Progress] = field(default_factory=list)
    concluded: list[int] = field(default_factory=list)
    bodies: dict[int, dict[str, Any]] = field(default_factory=dict)
    falls: list[tuple[int, Failure]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = [Progress() for _ in self.plan.results]
        for index, result in enumerate(self.plan.results):
            if result.branches:
                self._enlist(index, 0)
        self.settle()

    @property
    def ready(self) -> list[PlannedStep]:
        keys = [key for key, state in self.states.items() if state.phase is StepPhase.READY]
        return [self.plan.steps[key] for key in sorted(keys)]

    def settle(self) -> None:
        """Decide and apply until nothing is left to do now."""
        while (decision := decide(self.plan, self.progress, self.states)) != Decision():
            self._apply(decision)

    def succeed(self, step: PlannedStep, **found: Any) -> None:
        outputs = {name: file(f"{step.key[:8]}-{name}") for name in ("model", "samples", "repro")}
        self._end(step, phase=StepPhase.SUCCEEDED, facts=facts_of(step, **found), outputs=outputs)

    def succeed_with(self, step: PlannedStep, facts: dict[str, Any]) -> None:
        self._end(step, phase=StepPhase.SUCCEEDED, facts=facts, outputs={"model": file(f"{step.key[:8]}-model")})

    def fail(self, step: PlannedStep, failure: Failure | None, phase: StepPhase = StepPhase.FAILED) -> None:
        self._end(step, phase=phase, failure=failure)

    def finish(self, end: Callable[[Run, PlannedStep], None] | None = None) -> Run:
        """Let every step end, by `end` or well, until none is ready."""
        while self.ready:
            (end or Run.succeed)(self, self.ready[0])
        return self

    def body(self, runtime: str, recipe: str) -> dict[str, Any]:
        (index,) = (i for i, r in enumerate(self.plan.results) if (r.target_runtime, r.recipe) == (runtime, recipe))
        return self.bodies[index]

    def _end(self, step: PlannedStep, **changes: Any) -> None:
        assert self.states[step.key].phase is StepPhase.READY
        self.states[step.key] = replace(self.states[step.key], **changes)
        self.settle()

    def _enlist(self, index: int, branch: int) -> None:
        self._add(self.plan.results[index].branches[branch].steps)

    def _add(self, keys: Iterable[str]) -> None:
        for key in keys:
            stage = self.plan.steps[key].stage
            self.states.setdefault(key, StepState(f"step-{key[:8]}", key, stage, StepPhase.WAITING))

    def _apply(self, decision: Decision) -> None:
        for key in decision.skip:
            assert self.states[key].phase is StepPhase.WAITING
            self.states[key] = replace(self.states[key], phase=StepPhase.SKIPPED)
        for index, count in decision.grow:
            self.plan, branch = grown(self.plan, index, self.progress[index].branch, count, self.states)
            self.progress[index] = replace(self.progress[index], branch=branch)
            self._enlist(index, branch)
        for index, branch in decision.start:
            if branch in family_of(self.plan.results[index], self.progress[index].branch):
                self.progress[index] = replace(self.progress[index], branch=branch)
                continue
            failure = branch_failure(self.plan, self.progress, index, branch - 1, self.states)
            assert branch == self.progress[index].branch + 1
            assert failure is not None
            assert gives_way(self.plan, self.progress, index, branch - 1, self.states)
            self.falls.append((index, failure))
            self.progress[index] = replace(self.progress[index], branch=branch)
            self._enlist(index, branch)
        assert not set(decision.reproduce) & set(self.states), "a reproduction is added once"
        self._add(decision.reproduce)
        for key in decision.dispatch:
            assert self.states[key].phase is StepPhase.WAITING
            assert all(self.states[need].phase is StepPhase.SUCCEEDED for need in self.plan.steps[key].needs)
            self.states[key] = replace(self.states[key], phase=StepPhase.READY)
        for index in decision.conclude:
            assert not self.progress[index].concluded, "a result is concluded once"
            result = self.plan.results[index]
            baseline = result.baseline if result.branches else None
            assert baseline is None or self.progress[baseline].concluded, "its float result was concluded before"
            self.bodies[index] = conclude(self.plan, self.progress, index, self.states)
            self.progress[index] = replace(self.progress[index], concluded=True)
            self.concluded.append(index)


def has_ended(state: StepState) -> bool:
    return state.phase in ENDED
