"""Failures, split by who must act.

FarmError
├── RequestError         submitter: the request or the model is at fault
│   ├── BadRequest              a field of the request is wrong
│   ├── UnknownName             target, runtime or recipe that does not exist (near misses named)
│   ├── Incompatible            known names that do not go together
│   ├── OpenAxis                an axis without a size, and no --input that fixes it
│   ├── BadData                 calibration or evaluation data does not fit
│   ├── UnknownFormat           no format is recognised
│   ├── CorruptModel            the file is empty, truncated or not what its name says
│   ├── MissingFile             the model refers to a file that was not submitted
│   ├── UnsafeModel             the file asks to run code, or to read or write outside itself
│   ├── CustomOperator          an operator that no runtime here knows
│   ├── TooLarge                over a size limit
│   ├── DigestMismatch          bytes differ from what was declared
│   ├── NotFound                no such job, model or upload in this project
│   ├── Unauthorized            missing, unknown or insufficient token
│   └── Conflict                the same key with another body, or a state that does not allow it
├── ToolchainError       toolchain: the next route is tried
│   ├── ConversionFailed        the tool said no
│   ├── ToolCrashed             the tool died by a signal
│   ├── ToolTimedOut            over the stage's time
│   ├── ToolOutOfMemory         over the stage's memory (probable, or certain by cgroup)
│   ├── ToolOutOfDisk           over the stage's disk budget
│   ├── ArtifactBroken          the output does not load, or returns non-finite values
│   ├── ContractMismatch        inputs or outputs differ beyond what the route declares
│   └── NumericsBroken          the float result is not the source's function
├── HostError            host: back off, try elsewhere
│   ├── HostLost                the lease ran out
│   ├── HostFull                no disk left
│   ├── TransferFailed          storage or API out of reach
│   └── BadMeasurement          times or sizes that no clock gives
├── ConfigurationError   operator
│   ├── NoLiveHost              nobody alive serves the target
│   ├── ProfileMismatch         the machine is not what its profile says
│   ├── EnvironmentMissing      an environment is not installed
│   ├── IsolationTooWeak        the sandbox level is below what is accepted
│   └── FarmUnreachable         API, ledger, queue or store does not answer
├── JobCancelled         submitter, on purpose
└── FarmBug              us: unknown; traceback kept, never retried
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar


class Actor(StrEnum):
    """Who must act on a failure."""

    SUBMITTER = "submitter"
    TOOLCHAIN = "toolchain"
    HOST = "host"
    OPERATOR = "operator"
    US = "us"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as data: what is stored, sent and shown."""

    code: str
    message: str
    who_must_act: Actor
    retryable: bool
    remedy: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


class FarmError(Exception):
    """Carry a message that names subject, value, limit and way out.

    Args:
        message: one or two full sentences.
        remedy: what to do; the class's `help` when omitted.
        evidence: JSON values (tool, version, argv, exit, log_tail, operator …).
    """

    code: ClassVar[str] = "farm-error"
    who_must_act: ClassVar[Actor] = Actor.US
    retryable: ClassVar[bool] = False
    help: ClassVar[str | None] = None
    by_code: ClassVar[dict[str, type[FarmError]]] = {}

    def __init__(self, message: str, *, remedy: str | None = None, **evidence: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.help
        self.evidence = evidence

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if FarmError.by_code.setdefault(cls.code, cls) is not cls:
            raise TypeError(f"error code {cls.code!r} is taken by {FarmError.by_code[cls.code].__name__}")

    @property
    def failure(self) -> Failure:
        return Failure(self.code, self.message, self.who_must_act, self.retryable, self.remedy, self.evidence)

    @staticmethod
    def from_failure(failure: Failure) -> FarmError:
        """Rebuild the exception that a failure describes; an unknown code becomes FarmBug."""
        kind = FarmError.by_code.get(failure.code, FarmBug)
        return kind(failure.message, remedy=failure.remedy, **failure.evidence)


class RequestError(FarmError):
    code = "request-error"
    who_must_act = Actor.SUBMITTER


class BadRequest(RequestError):
    code = "bad-request"


class UnknownName(RequestError):
    code = "unknown-name"


class Incompatible(RequestError):
    code = "incompatible"


class OpenAxis(RequestError):
    code = "open-axis"


class BadData(RequestError):
    code = "bad-data"


class UnknownFormat(RequestError):
    code = "unknown-format"


class CorruptModel(RequestError):
    code = "corrupt-model"


class MissingFile(RequestError):
    code = "missing-file"


class UnsafeModel(RequestError):
    code = "unsafe-model"


class CustomOperator(RequestError):
    code = "custom-operator"


class TooLarge(RequestError):
    code = "too-large"


class DigestMismatch(RequestError):
    code = "digest-mismatch"


class NotFound(RequestError):
    code = "not-found"


class Unauthorized(RequestError):
    code = "unauthorized"
    help = "Set FARM_TOKEN to a token of this farm (stack.json of the data folder holds one)."


class Conflict(RequestError):
    code = "conflict"


class ToolchainError(FarmError):
    code = "toolchain-error"
    who_must_act = Actor.TOOLCHAIN


class ConversionFailed(ToolchainError):
    code = "conversion-failed"


class ToolCrashed(ToolchainError):
    code = "tool-crashed"


class ToolTimedOut(ToolchainError):
    code = "tool-timed-out"


class ToolOutOfMemory(ToolchainError):
    code = "tool-out-of-memory"


class ToolOutOfDisk(ToolchainError):
    code = "tool-out-of-disk"


class ArtifactBroken(ToolchainError):
    code = "artifact-broken"


class ContractMismatch(ToolchainError):
    code = "contract-mismatch"


class NumericsBroken(ToolchainError):
    code = "numerics-broken"


class HostError(FarmError):
    code = "host-error"
    who_must_act = Actor.HOST
    retryable = True


class HostLost(HostError):
    code = "host-lost"


class HostFull(HostError):
    code = "host-full"
    help = "Free space on the host, or move its work folder with FARM_WORK_DIR."


class TransferFailed(HostError):
    code = "transfer-failed"


class BadMeasurement(HostError):
    code = "bad-measurement"


class ConfigurationError(FarmError):
    code = "configuration-error"
    who_must_act = Actor.OPERATOR


class NoLiveHost(ConfigurationError):
    code = "no-live-host"


class ProfileMismatch(ConfigurationError):
    code = "profile-mismatch"


class EnvironmentMissing(ConfigurationError):
    code = "environment-missing"


class IsolationTooWeak(ConfigurationError):
    code = "isolation-too-weak"


class FarmUnreachable(ConfigurationError):
    code = "farm-unreachable"
    retryable = True
    help = "Start the stack with `farm up`, or point FARM_URL at a running farm."


class JobCancelled(FarmError):
    code = "job-cancelled"
    who_must_act = Actor.SUBMITTER


class FarmBug(FarmError):
    code = "farm-bug"
    help = "Please report it with the step's log: `farm logs JOB`."
