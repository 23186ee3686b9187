"""What hosts and the control plane tell each other."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from farm.wire.base import ArtifactEntry, FailureEntry, FileEntry, Message
from farm.wire.transfers import Download


class Attestation(Message):
    """What a worker proved about its machine at start."""

    name: str = Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$")
    profile: str
    can_measure: bool = Field(description="the machine's identity is this profile, not merely compatible with it")
    architecture: str
    emulated: bool | None
    isolation: Literal["full", "partial", "none", "outside"]
    environments: dict[str, str] = Field(description="name -> digest of its lock")
    serves: list[str] = Field(description="queues: build.<arch>, target.<profile>")
    facts: dict[str, Any] = Field(default_factory=dict)


class HostView(Message):
    """A host as users see it."""

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


class Heartbeat(Message):
    """Sent by a host every few seconds: attempts it runs, steps it holds while waiting for its lock."""

    name: str
    running: list[str] = Field(default_factory=list, description="attempt ids")
    waiting: list[str] = Field(default_factory=list, description="step ids")
    wait_s: float = Field(default=0.0, ge=0, le=30, description="how long to hold an empty answer (long poll)")


class HeartbeatAnswer(Message):
    """Attempts to stop: cancelled, or their lease is gone."""

    stop: list[str] = Field(default_factory=list)
    unknown_host: bool = Field(default=False, description="attest again")


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
