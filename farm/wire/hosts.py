"""What hosts and the control plane tell each other."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from farm.wire.base import ArtifactEntry, FailureEntry, FileEntry, Message
from farm.wire.transfers import Download

HostName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")]
HostState = Literal["live", "away", "quarantined", "revoked"]


class Attestation(Message):
    """What a worker proved about its machine at start; `instance` tells this process from others of its name."""

    name: HostName
    instance: str | None = Field(default=None, max_length=64)
    profile: str
    can_measure: bool = Field(description="the machine's identity is this profile, not merely compatible with it")
    architecture: str
    emulated: bool | None
    isolation: Literal["full", "partial", "none", "outside"]
    environments: dict[str, str] = Field(description="name -> digest of its lock")
    serves: list[str] = Field(description="queues: build.<arch>, target.<profile>")
    facts: dict[str, Any] = Field(default_factory=dict)


class SelfTestView(Message):
    """One self-test under one runtime: its figures, and what came of it."""

    runtime: str
    asked: datetime
    asked_by: str
    job: str | None
    ended: datetime | None
    verdict: Literal["running", "passed", "inconclusive", "failed"]
    reasons: list[str] = Field(default_factory=list)
    figures: dict[str, Any] = Field(default_factory=dict, description="p50_us, noise_floor_ratio, sqnr_db, …")


class HostView(Message):
    """A host as users see it.

    `queue_length` counts the steps that wait for this host or one like it, `predicted_start_s` is an estimate from the
    run times of steps of the same queues: when a step sent now would start. `noise_floor_ratio` is of the newest
    valid self-test. `notice` is the last thing its operator should know.
    """

    name: str
    profile: str
    architecture: str
    emulated: bool | None
    can_measure: bool
    isolation: str
    live: bool
    last_heartbeat: datetime
    serves: list[str]
    environments: dict[str, str]
    running: list[str]
    facts: dict[str, Any] = Field(default_factory=dict)
    state: HostState = "live"
    reason: str | None = Field(default=None, description="why it is quarantined or revoked")
    notice: str | None = None
    queue_length: int = 0
    predicted_start_s: float | None = Field(default=None, description="predicted; None when nobody can tell")
    noise_floor_ratio: float | None = None
    self_test: SelfTestView | None = Field(default=None, description="the newest one")


class EnrolRequest(Message):
    """Ask for a host's place on the farm; `profile` is what its worker will have to attest, or auto."""

    name: HostName
    profile: str = "auto"


class Enrolment(Message):
    """A host's place on the farm, and its token: shown once, good for this host alone."""

    name: str
    profile: str
    project: str
    token: str
    redis_url: str | None
    environments: list[str] = Field(description="what the profile's runtimes need there")


class HostSelf(Message):
    """What a worker's token stands for, and what else it needs to join; None where it has to be told otherwise."""

    name: str | None
    profile: str | None
    project: str
    redis_url: str | None


class QuarantineRequest(Message):
    """Take a host out of rotation."""

    reason: str = Field(min_length=3, max_length=500)


class Leave(Message):
    """A worker ends and gives its name up."""

    name: str
    instance: str


class Heartbeat(Message):
    """Sent by a host every few seconds: attempts it runs, steps it holds while waiting for its lock."""

    name: str
    instance: str | None = None
    running: list[str] = Field(default_factory=list, description="attempt ids")
    waiting: list[str] = Field(default_factory=list, description="step ids")
    lock_held_elsewhere: bool = Field(default=False, description="by another farm on the machine")
    wait_s: float = Field(default=0.0, ge=0, le=30, description="how long to hold an empty answer (long poll)")
    clock_s: float | None = Field(default=None, allow_inf_nan=False, description="the host's clock, seconds since 1970")


class HeartbeatAnswer(Message):
    """Attempts to stop: cancelled, or their lease is gone; and what else the host should know."""

    stop: list[str] = Field(default_factory=list)
    unknown_host: bool = Field(default=False, description="attest again")
    quarantined: str | None = Field(default=None, description="why it gets no work but self-tests")
    notice: str | None = Field(default=None, description="for the operator who reads the worker's log")


class ClaimRequest(Message):
    """Ask for a step that a message named."""

    host: str
    step: str
    attempt: int


class ClaimedInput(Message):
    """One role's files, and the facts and contract of the step that made them."""

    role: str
    is_tree: bool
    files: list[Download]
    facts: dict[str, Any] = Field(default_factory=dict)
    contract: dict[str, Any] | None = None


class Claim(Message):
    """A lease on one attempt, with everything it takes to run it."""

    attempt: str
    fencing_token: str
    lease_s: float
    step: str
    stage: str
    stage_version: str
    environment: str
    options: dict[str, Any]
    profile: dict[str, Any]
    target_profile: str | None
    inputs: list[ClaimedInput]
    max_runtime_seconds: float
    memory_bytes: int


class DeclaredOutputs(Message):
    """Files an attempt wants to store; `log` as well."""

    fencing_token: str
    files: list[FileEntry]
    broken_put: bool = False


class Outcome(Message):
    """What an attempt ended with: outputs and facts, or a failure."""

    fencing_token: str
    state: Literal["succeeded", "failed", "cancelled"]
    outputs: dict[str, ArtifactEntry] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    contract: dict[str, Any] | None = None
    failure: FailureEntry | None = None
    log: FileEntry | None = None
    reproduce: str | None = None
    isolation: Literal["full", "partial", "none", "outside"]
    run_time_s: float = Field(ge=0)
    fetch_time_s: float = Field(default=0.0, ge=0)
    store_time_s: float = Field(default=0.0, ge=0)
    tool_versions: dict[str, str] = Field(default_factory=dict)
