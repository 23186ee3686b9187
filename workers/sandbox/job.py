"""What travels between worker, zygote and supervisor: JSON only, never a pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass

from farm.domain.codec import canonical, decode
from workers.sandbox.values import End, Foreign, Level, Limits

MESSAGE_BYTES = 128 << 10
"""The longest message on any of the sandbox's sockets."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call as the zygote needs it: absolute paths as text, the level and the slot's user decided.

    Attributes:
        import_root: folder on the child's import path; holds links to `code` and nothing else.
        code: folders of our own code.
        cgroup: control group of this run alone; None where none was delegated.
        uid: user the child becomes; None keeps the worker's (which then is no root).
        foreign: where the child's interpreter is, when it is none of this machine's.
        devices: nodes of accelerators that the child may read, write and control.
    """

    entry: str
    work: str
    readable: tuple[str, ...]
    import_root: str
    code: tuple[str, ...]
    limits: Limits
    level: Level
    fresh: bool
    spawns: bool
    uid: int | None
    cores: tuple[int, ...] | None
    cgroup: str | None = None
    foreign: Foreign | None = None
    devices: tuple[str, ...] = ()

    def locate(self, path: str) -> str:
        return path if self.foreign is None else self.foreign.locate(path)


@dataclass(frozen=True, slots=True)
class Observed:
    """The supervisor's verdict.

    Attributes:
        started: monotonic seconds at the child's first line.
    """

    end: End
    exit_code: int | None = None
    signal: str | None = None
    run_time_s: float = 0.0
    peak_memory_bytes: int | None = None
    cpu_s: float | None = None
    detail: str | None = None
    started: float | None = None


def setup_failed(detail: str) -> Observed:
    return Observed("setup", detail=detail)


def pack(value: Job | Observed) -> bytes:
    return canonical(value)


def unpack_job(message: bytes) -> Job:
    return decode(Job, json.loads(message))


def unpack_observed(message: bytes) -> Observed:
    """Read a verdict; it comes from our own supervisor, never from a child."""
    return Observed(**json.loads(message))
