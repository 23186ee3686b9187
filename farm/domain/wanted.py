"""What the planner is given: what a job wants, what was submitted, what can be done here and now."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farm.domain.artifact import Artifact
from farm.domain.catalogue import Catalogue, LiveHost, Target
from farm.domain.errors import Failure
from farm.domain.facts import ModelFacts
from farm.domain.inputs import GivenInput
from farm.domain.scenario import Measuring


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job asks for; `runtimes` None means every runtime of each target, `formats` None what each likes best.

    `searched` are those of the recipes that nobody named: candidates for the answer. `unscored` names the models
    without samples to score. `measuring` says how results are measured, and changes nothing that is built.
    """

    job: str
    targets: tuple[str, ...]
    runtimes: tuple[str, ...] | None
    recipes: tuple[str, ...]
    max_runtime_seconds: float | None = None
    formats: tuple[str, ...] | None = None
    constraints: tuple[str, ...] = ()
    objective: str | None = None
    searched: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    host: str | None = None
    """The one host that what runs on the target is pinned to."""
    measuring: Measuring = dataclasses.field(default_factory=Measuring)
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """What the job sets of stages itself, by recipe or stage (farm.domain.tuning)."""
    together: tuple[str, ...] = ()
    """The models to be compiled together, in the order of the job (farm.domain.together)."""
    tests_host: bool = False
    """The job tests that host: what runs on it is run anew, however often the same was run there before."""

    @property
    def chooses(self) -> bool:
        """Tell whether the farm is to choose among the results."""
        return bool(self.constraints or self.objective or self.searched)


@dataclass(frozen=True, slots=True)
class Submitted:
    """One model of the job after inspection; `facts` is None when inspection failed and `failures` says why.

    `calibration_arrays` and `evaluation_arrays` are what inspection found in the data files: {name: {dtype, shape}}.
    """

    name: str
    artifact: Artifact
    facts: ModelFacts | None
    inspect: str | None = None
    failures: tuple[Failure, ...] = ()
    given: tuple[GivenInput, ...] = ()
    calibration: Artifact | None = None
    calibration_arrays: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    evaluation: Artifact | None = None
    evaluation_arrays: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    metric: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    """How pictures become the input, in full (farm.domain.preprocessing)."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of a refusal, and the model it concerns (None: the request itself)."""

    failure: Failure
    model: str | None = None


@dataclass(frozen=True, slots=True)
class World:
    """What can be done here and now."""

    catalogue: Catalogue
    targets: Mapping[str, Target]
    hosts: tuple[LiveHost, ...]
