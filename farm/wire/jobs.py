"""What users send and see: models, jobs, targets, routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from farm.wire.base import ArtifactEntry, FailureEntry, FileEntry, Message
from farm.wire.transfers import Download

JobState = Literal["inspecting", "planned", "running", "succeeded", "partial", "failed", "refused", "cancelled"]
ENDED: tuple[JobState, ...] = ("succeeded", "partial", "failed", "refused", "cancelled")
DOCUMENTS = ("manifest.json", "report.json", "report.html", "repro.zip")
"""What is published beside each result's model files."""
LONGEST_AGE_S = 10 * 365.25 * 86400
ScenarioName = Literal["single_stream", "multi_stream", "offline", "server"]


def _leaves_room(artifact: ArtifactEntry) -> ArtifactEntry:
    """Keep the names of the documents that are published beside a model's files free."""
    if taken := [f.name for f in artifact.files if f.name in DOCUMENTS]:
        raise ValueError(f"the farm publishes its own {taken[0]} beside the model's files: rename yours")
    return artifact


SourceEntry = Annotated[ArtifactEntry, AfterValidator(_leaves_room)]
OptionName = Annotated[str, Field(max_length=100)]
Label = Annotated[str, Field(max_length=200)]


class ModelRequest(Message):
    """One model of a job.

    `inputs` are strings NAME:DTYPE[D,D,…] and fix what the file leaves open; `in LOW..HIGH` after that says which
    values the input takes. `calibration` and `evaluation` are uploaded .npz files whose arrays go by input name;
    `evaluation` also holds `labels`.
    """

    artifact: SourceEntry
    name: str | None = Field(default=None, max_length=200)
    file_name: str = Field(max_length=255, description="the submitted file's or folder's own name")
    inputs: list[str] = Field(default_factory=list)
    calibration: FileEntry | None = None
    evaluation: FileEntry | None = None
    metric: str | None = None
    preprocessing: dict[str, Any] | None = None


class MeasuringRequest(Message):
    """How results are measured.

    Latencies are told of the first of `threads`; several are swept. `sustained_s` asks for one further run without a
    pause. `samples_per_query` is multi_stream's; `target_qps` and `latency_bound_ms` are server's. What does not fit is
    refused with the job's other reasons.
    """

    scenario: ScenarioName = "single_stream"
    threads: list[int] = Field(default_factory=list)
    sustained_s: float = Field(default=0.0, allow_inf_nan=False)
    samples_per_query: int | None = None
    target_qps: float | None = Field(default=None, allow_inf_nan=False)
    latency_bound_ms: float | None = Field(default=None, allow_inf_nan=False)


class JobRequest(MeasuringRequest):
    """One submission: models x targets x runtimes x recipes.

    `formats` narrows what runtimes may take; without it each takes the formats it likes best. `host` pins what runs on
    the target to one of its hosts. `options` sets those of stages: {recipe or stage: {option: value}}. `co_compile` has
    the models compiled together, to share the memory of an accelerator that they run on side by side.
    """

    models: list[ModelRequest] = Field(min_length=1, max_length=1000)
    targets: list[str] = Field(min_length=1)
    runtimes: list[str] | None = None
    recipes: list[str] | None = None
    formats: list[str] | None = None
    host: str | None = Field(default=None, max_length=63)
    options: dict[OptionName, dict[OptionName, JsonValue]] = Field(default_factory=dict, max_length=100)
    co_compile: bool = False
    constraints: list[str] = Field(default_factory=list)
    objective: Literal["latency", "size", "accuracy", "memory"] | None = None
    name: str | None = Field(default=None, max_length=200)
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=100)
    max_measurement_age_s: float = Field(default=0.0, ge=0, le=LONGEST_AGE_S)
    max_runtime_seconds: float | None = Field(default=None, gt=0)


class Progress(Message):
    """How far a job is: steps that ended, steps in all, and what runs now."""

    steps_done: int
    steps_total: int
    running: list[str] = Field(
        default_factory=list,
        description="a line per step: stage, model, target, recipe, host; of steps that wait for a host's lock too",
    )


class JobView(Message):
    """A job without its results."""

    job: str
    project: str
    name: str | None
    labels: dict[str, str]
    state: JobState
    reasons: list[dict[str, Any]] = Field(default_factory=list)
    retry_of: str | None = None
    created: datetime
    ended: datetime | None = None
    results_total: int = 0
    results_by_verdict: dict[str, int] = Field(default_factory=dict)
    progress: Progress


class ModelView(Message):
    """A model and, once inspected, its facts (the JSON of farm.domain.facts.ModelFacts)."""

    model: str
    digest: str
    state: Literal["inspecting", "inspected", "failed"]
    facts: dict[str, Any] | None = None
    failure: FailureEntry | None = None


class ModelCreate(Message):
    """Register uploaded files as a model, to have it inspected."""

    artifact: SourceEntry
    file_name: str = Field(max_length=255)


class TargetView(Message):
    """A profile as a target: what it is, what it runs, and who serves it now."""

    name: str
    title: str
    architecture: str
    runtimes: list[str]
    live_hosts: list[str]
    verified: bool


class RouteView(Message):
    """One stage as an edge of the format graph; `available` false comes with `why_not` and a `way_out`.

    `hosts` are the live build hosts that have its environment at this farm's version, hence `tools` at these versions.
    """

    stage: str
    kind: str
    source: str | None
    target: str | None
    recipe: str | None
    environment: str
    tools: dict[str, str]
    available: bool
    why_not: str | None = None
    way_out: str | None = None
    hosts: list[str] = Field(default_factory=list)


class ChainView(Message):
    """One way from a format to another by a recipe; `place` is its rank.

    `tried` are the ways a plan keeps (if every stage takes the model), `used` is the first of them.
    """

    recipe: str
    place: int
    stages: list[str]
    format: str
    available: bool
    tried: bool
    used: bool
    why_not: str | None = None


class LogView(Message):
    """The log of one attempt; `url` is presigned, None while the attempt runs."""

    step: str
    stage: str
    attempt: int
    host: str | None
    state: str
    url: str | None


class ResultFiles(Message):
    """The published files of one result; `folder` is model/target/runtime/recipe."""

    folder: str
    files: list[Download]


class Event(Message):
    """One server-sent event: `event` is job, result or step; `data` the changed object's JSON."""

    id: int
    event: Literal["job", "result", "step"]
    at: datetime
    data: dict[str, Any]
