"""The report as typed values. `report.schema.json` beside this file is the contract; a test holds the two together."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from farm.domain.errors import Actor
from farm.wire.jobs import JobState

Verdict = Literal["ok", "degraded", "slower-than-float", "invalid-measurement", "failed"]
ResultState = Literal["waiting", "running", "succeeded", "failed", "cancelled"]
StepState = Literal["waiting", "ready", "published", "running", "succeeded", "failed", "skipped", "cancelled"]
Isolation = Literal["full", "partial", "none", "outside"]
InvalidReason = Literal[
    "emulated",
    "throttled",
    "hot",
    "loaded",
    "steal",
    "clock-low",
    "governor",
    "memory-pressure",
    "unstable",
    "reference-drift",
    "unknown-state",
]

_LEFT_OUT: dict[str, JsonValue] = {"left_out_when_unknown": True}


def _unknown() -> Any:
    """Declare a field that the schema allows to be missing, but not to be null."""
    return Field(default=None, json_schema_extra=_LEFT_OUT)


class Part(BaseModel):
    """A frozen part of a report; additions by newer farms are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_serializer(mode="wrap")
    def _leave_out_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        left_out = {name for name, field in fields.items() if field.json_schema_extra is _LEFT_OUT}
        return {name: value for name, value in handler(self).items() if value is not None or name not in left_out}


class Reason(Part):
    """One reason of a refusal."""

    code: str
    message: str
    who_must_act: str
    remedy: str | None
    model: str | None = None


class Ref(Part):
    """Names one result; `reason` says why it lost, or by which reckoning the winner keeps a bound."""

    model: str
    target: str
    target_runtime: str
    recipe: str
    reason: str | None = _unknown()


class Answer(Part):
    """The result that satisfies the constraints, and why the others lost.

    `decided_on` says whether the samples by which was chosen are those that the figures are shown of.
    """

    winner: Ref | None = None
    pareto: list[Ref] = Field(default_factory=list)
    losers: list[Ref] = Field(default_factory=list)
    nearest_miss: Ref | None = None
    model: str | None = _unknown()
    decided_on: str | None = _unknown()

    @property
    def refusal(self) -> str:
        """Say that there is no winner: a constraint on what was not validly measured may yet hold."""
        told = self.nearest_miss.reason if self.nearest_miss else None
        verb = "is known to satisfy" if told and "is not known" in told else "satisfies"
        return f"nothing {verb} the constraints"


class ArtifactFile(Part):
    name: str
    sha256: str
    size_bytes: int


class ResultArtifact(Part):
    """The files of a result and how to call them."""

    files: list[ArtifactFile]
    size_bytes: int
    inputs: list[Any]
    outputs: list[Any]
    format: str | None = _unknown()
    contract_changes: list[str] = Field(default_factory=list)


class StageNumerics(Part):
    """One comparison with the source: what `stage` made, on a build host or on the target's; figures as in Numerics."""

    stage: str
    where: Literal["build", "target"]
    format: str | None = None
    runtime: str | None = None
    host: str | None = None
    sqnr_db: float | None = None
    psnr_db: float | None = None
    cosine: float | None = None
    max_abs_error: float | None = None
    worst_output: str | None = None
    limit_db: float | None = _unknown()
    not_checked: str | None = _unknown()

    @property
    def is_bad(self) -> bool:
        return self.limit_db is not None and self.sqnr_db is not None and self.sqnr_db < self.limit_db


class Layer(Part):
    """One inner tensor of a quantized model against the float model's, on one sample on a build host.

    `clipped_share` of the float values lies beyond all that the quantized file gives there.
    """

    tensor: str
    operator: str
    sqnr_db: float
    cosine: float
    max_abs_error: float
    max_abs_value: float
    clipped_share: float = 0.0


class Numerics(Part):
    """How close the outputs are to the source's: `sqnr_db` of the worst output in dB, at most 200.

    `disagreement` says in a sentence that the target's host computes a file otherwise than the build host does.
    `per_layer` is in the order of execution, None where no layers were compared; `per_layer_note` says what is missing.
    """

    sqnr_db: float | None
    cosine: float | None
    max_abs_error: float | None
    psnr_db: float | None = None
    samples: int | None = _unknown()
    per_output: list[Any] = Field(default_factory=list)
    by_stage: list[StageNumerics] = Field(default_factory=list)
    first_bad_stage: str | None = None
    first_bad_tensor: str | None = None
    disagreement: str | None = None
    per_layer: list[Layer] | None = _unknown()
    per_layer_note: str | None = _unknown()

    @property
    def worst_layers(self) -> list[Layer]:
        """List the five layers that are furthest from the float model's, the worst first."""
        return sorted(self.per_layer or [], key=lambda layer: layer.sqnr_db)[:5]

    @property
    def bad_layer(self) -> Layer | None:
        """Give the layer that `first_bad_tensor` names; None where it names an output, or nothing."""
        return next((one for one in self.per_layer or [] if one.tensor == self.first_bad_tensor), None)


class Accuracy(Part):
    """The metric on the user's data, beside the float source's."""

    metric: str
    value: float
    float_value: float
    samples: int
    ci95: list[float] | None = _unknown()
    float_ci95: list[float] | None = _unknown()


class ExecutionSummary(Part):
    """Measured times in microseconds, memory in bytes; `estimated_inference_time` is the measured median."""

    estimated_inference_time: float
    p50: float
    p90: float
    p99: float | None
    first_load_time: float
    all_inference_times: list[list[float]]
    scenario: Literal["single_stream", "multi_stream", "offline", "server"] | None = _unknown()
    threads: int | None = _unknown()
    ci95: list[float] | None = _unknown()
    warm_load_time: float | None = None
    inference_memory_peak_range: list[int] | None = _unknown()
    versus_float: float | None = None
    reused: bool | None = _unknown()
    age_s: float | None = None


class OperatorTime(Part):
    """Time of one operator in microseconds."""

    name: str
    type: str
    compute_unit: str
    execution_time: float | None


class Conditions(Part):
    """Under which conditions a measurement was taken, and whether it counts."""

    valid: bool
    reasons: list[InvalidReason]
    emulated: bool | None
    host: str
    profile: str
    cpu: str | None = _unknown()
    governor: str | None = None

    @model_validator(mode="after")
    def _emulated_never_counts(self) -> Conditions:
        if self.valid and self.emulated is not False:
            raise ValueError("a measurement on a host that is emulated, or may be, is never valid")
        return self


class ToolVersion(Part):
    name: str
    version: str


class StepLog(Part):
    """By which step and attempt `farm logs` lists a step's log."""

    step: str
    attempt: int


class StepReport(Part):
    """One step: queue time and run time are two clocks; `where` tells a build host's comparison from the target's."""

    step: str
    stage: str
    state: StepState
    key: str
    reused: bool | None = _unknown()
    attempts: int | None = _unknown()
    isolation: Isolation | None = None
    queue_time_s: float | None = None
    run_time_s: float | None = None
    host: str | None = None
    reproduce: str | None = None
    tools: list[ToolVersion] = Field(default_factory=list)
    arguments: dict[str, Any] = Field(default_factory=dict)
    log: StepLog | None = None
    where: Literal["build", "target"] | None = _unknown()
    failure_type: str | None = _unknown()
    who_must_act: Actor | None = _unknown()
    message: str | None = _unknown()
    remedy: str | None = _unknown()
    evidence: dict[str, Any] = Field(default_factory=dict)


class Reproduction(Part):
    """A small model that makes `stage` fail as the submitted one did; `reason` says why there is no `file`."""

    stage: str
    file: str | None = None
    nodes: int | None = None
    original_nodes: int | None = None
    signature: str | None = None
    reason: str | None = _unknown()


class Result(Part):
    """What one model x target x runtime x recipe came to."""

    model: str
    target: str
    target_runtime: str
    recipe: str
    state: ResultState
    verdict: Verdict | None
    steps: list[StepReport]
    failure_type: str | None = None
    who_must_act: Actor | None = None
    retryable: bool | None = None
    message: str | None = None
    remedy: str | None = None
    artifact: ResultArtifact | None = None
    numerics: Numerics | None = None
    accuracy: Accuracy | None = None
    execution_summary: ExecutionSummary | None = None
    execution_detail: list[OperatorTime] | None = None
    conditions: Conditions | None = None
    tool_versions: list[ToolVersion] = Field(default_factory=list)
    verdicts: list[str] = Field(default_factory=list)
    reproduction: Reproduction | None = _unknown()
    notes: list[str] = Field(default_factory=list)
    preprocessing: dict[str, Any] | None = _unknown()
    labels: list[str] | None = _unknown()

    @model_validator(mode="after")
    def _predictions_never_count(self) -> Result:
        predicted = self.execution_summary is not None and (self.execution_summary.model_extra or {}).get("predicted")
        if predicted and self.conditions is not None and self.conditions.valid:
            raise ValueError("a predicted time is not a measurement, so never a valid one")
        return self

    @property
    def folder(self) -> str:
        return f"{self.model}/{self.target}/{self.target_runtime}/{self.recipe}"

    @property
    def is_valid(self) -> bool:
        """Tell whether the times may be shown as a measurement."""
        return self.execution_summary is not None and self.conditions is not None and self.conditions.valid


class LeftOut(Part):
    """A cell that can't be, under a runtime that was not asked for by name."""

    model: str
    target: str
    target_runtime: str
    recipe: str
    reason: str


class Report(Part):
    """The report of a job."""

    schema_version: Literal["1"] = "1"
    job: str
    state: JobState
    results: list[Result]
    project: str | None = _unknown()
    name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    retry_of: str | None = None
    reasons: list[Reason] = Field(default_factory=list)
    created: datetime | None = _unknown()
    ended: datetime | None = None
    answer: Answer | None = None
    answers: list[Answer] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)
