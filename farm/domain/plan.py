"""The plan: the graph of steps that answers a job.

A plan is a pure function of request, facts, stage catalogue and live-host snapshot. Every result keeps its routes as
alternatives, best first; each alternative is a branch with its own keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farm.domain.artifact import Artifact
from farm.domain.codec import digest
from farm.domain.errors import Failure
from farm.domain.facts import Format
from farm.domain.goal import Goal
from farm.domain.stage import StageSpec

SOURCE = "source"
"""What stands for a stage where a model is taken as it is."""


@dataclass(frozen=True, slots=True)
class Input:
    """What a step reads in one role: an uploaded artifact, or the output of another step."""

    role: str
    artifact: Artifact | None = None
    step: str | None = None
    output: str = "model"

    def as_(self, role: str) -> Input:
        return Input(role, self.artifact, self.step, self.output)

    @property
    def identity(self) -> Mapping[str, str]:
        if self.artifact is not None:
            return {"role": self.role, "digest": self.artifact.digest}
        return {"role": self.role, "step": self.step or "", "output": self.output}


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A stage bound to inputs and options.

    `key` identifies it. `reuse_key` is the key without the job: what an old measurement is found by.
    `environment_digest` is that of the lock a host must attest to claim it. `after` are steps whose success it waits
    for without reading them: nothing is scored or measured before it was compared. `tools` are the pins of the packages
    that its stage declares. `programs` are digests of what a host must attest beside the environment, by name: what its
    operator supplies.
    """

    key: str
    stage: str
    version: str
    kind: str
    environment: str
    environment_digest: str
    options: Mapping[str, Any]
    profile: Mapping[str, Any]
    inputs: tuple[Input, ...]
    queue: str
    title: str
    max_runtime_seconds: float
    memory_bytes: int
    target: str | None = None
    reuse_key: str | None = None
    after: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """Name the steps that must have succeeded first."""
        return tuple(dict.fromkeys([given.step for given in self.inputs if given.step] + list(self.after)))


@dataclass(frozen=True, slots=True)
class Check:
    """What one stage made, compared with the source on a build host; one step for all targets that share the stage.

    `stage` is SOURCE for a model that is taken as it is. `recipe` is the one whose lines hold there: the baseline's
    up to the stage that applies another. `not_checked` says why no step was planned.
    """

    stage: str
    format: Format | None
    recipe: str
    runtime: str | None = None
    step: str | None = None
    not_checked: str | None = None


@dataclass(frozen=True, slots=True)
class Layers:
    """The comparison of a quantized model with its float one, layer by layer, on a build host.

    `stage` is the one that quantized. `not_compared` says why no step was planned.
    """

    stage: str
    step: str | None = None
    not_compared: str | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """One route of a result: its steps in order, and which of them say what.

    `artifact` is where the result's file comes from: the last transform, or the source itself. `compared_on` says which
    samples its numerics are of: "evaluation", "report" (calibration samples that neither calibrated nor selected),
    "calibration" (which flatters what was calibrated on them) or "seeded".
    `checks` follow the route, stage by stage. `reproductions` maps a transform to the step that shrinks its model
    should it fail; those steps are none of the branch's own. `probe` is a short measurement that a search ranks by.
    `layers` is there where the route quantizes. `in_float` says how many operators a later round of int8-mixed leaves
    in float; None of what was planned at first. `beside` maps each model that is compiled together with the branch's
    own to the steps that make its file and take what it was compiled to, which are among the branch's.
    """

    route: tuple[str, ...]
    float_route: tuple[str, ...]
    steps: tuple[str, ...]
    artifact: Input
    compare: str
    measure: str
    evaluate: str | None = None
    format: Format | None = None
    compared_on: str = "seeded"
    checks: tuple[Check, ...] = ()
    reproductions: Mapping[str, str] = field(default_factory=dict)
    probe: str | None = None
    layers: Layers | None = None
    in_float: int | None = None
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def looks(self) -> frozenset[str]:
        """Name the steps that only look at what others made: the branch can do without them.

        The comparison on the target is none of them, also where it is a check.
        """
        found = (*(check.step for check in self.checks), self.layers.step if self.layers else None)
        return frozenset(step for step in found if step not in (None, self.compare))


@dataclass(frozen=True, slots=True)
class PlannedResult:
    """One row of the answer: a model on a target under a runtime by a recipe.

    `baseline` is the index of the float32 result it is held against. An unlisted result is such a baseline that
    nobody asked for: it is run, not reported. `failure` says why no branch exists; `reachable` is False when no chain
    of stages leads there from the model's format. `notes` say what is poor about the data. A `searched` result is one
    that the farm tries of its own accord, to answer a goal. `preprocessing` is how pictures became the input.
    """

    model: str
    target: str
    target_runtime: str
    recipe: str
    format: Format | None
    branches: tuple[Branch, ...]
    baseline: int | None = None
    listed: bool = True
    failure: Failure | None = None
    inspect: str | None = None
    changes: tuple[str, ...] = ()
    refused_routes: tuple[str, ...] = ()
    reachable: bool = True
    notes: tuple[str, ...] = ()
    searched: bool = False
    preprocessing: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A cell of the matrix that can't be, and that nobody named: told, and not a failed result."""

    model: str
    target: str
    target_runtime: str
    recipe: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps by key, results in the order of the report, and what each model's are chosen by, by its name."""

    steps: Mapping[str, PlannedStep] = field(default_factory=dict)
    results: tuple[PlannedResult, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    goals: Mapping[str, Goal] = field(default_factory=dict)


def step_key(
    spec: StageSpec,
    *,
    options: Mapping[str, Any],
    profile: Mapping[str, Any],
    pins: Mapping[str, str],
    inputs: tuple[Input, ...],
    job: str | None,
    host: str | None = None,
) -> str:
    """Identify a step by what it reads, its options and its tools (invariant I3).

    `job` only for measurements, `host` only where the step is pinned to one.
    """
    identity = {
        "stage": spec.name,
        "version": spec.version,
        "options": options,
        "profile": profile,
        "tools": {tool: pins.get(tool, "") for tool in spec.tools},
        "inputs": [given.identity for given in inputs],
        "job": job,
    }
    return digest(identity | ({"host": host} if host else {}))
