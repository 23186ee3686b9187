"""What is asked of the sandbox and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

End = Literal["exit", "signal", "wall", "memory", "disk", "cancelled", "setup"]

OUT_OF_MEMORY_EXIT = 97
"""Exit code of a child whose entry raised MemoryError."""


class Level(StrEnum):
    """How strong the isolation is, as proven by probes.

    FULL: namespaces, landlock, seccomp, limits. PARTIAL: the same without namespaces. NONE: limits only.
    """

    FULL = "full"
    PARTIAL = "partial"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use.

    Attributes:
        wall_s: seconds from the child's first line to its end.
        memory_bytes: anonymous and shared memory of the whole tree, beyond what the zygote brought.
        disk_bytes: everything under the work folder.
        file_bytes: the largest single file.
        threads: threads and processes together.
        cpu_s: processor seconds of one process; None for no limit.
    """

    wall_s: float
    memory_bytes: int
    disk_bytes: int
    file_bytes: int
    threads: int = 512
    cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One function to run.

    Attributes:
        environment: folder of a virtual environment (bin/python3).
        entry: "package.module:function", called in the child as function(work).
        work: the only writable folder, existing; the child's current folder. Its output goes to work/log.txt.
        readable: further files and folders the child may read.
        preload: modules the zygote imports before it forks.
        fresh: exec a new interpreter inside the sandbox (measurements) instead of forking the zygote.
        spawns: the entry may fork and exec programs of its environment and of /usr.
        cores: processors the child is pinned to.
    """

    environment: Path
    entry: str
    work: Path
    readable: tuple[Path, ...]
    limits: Limits
    preload: tuple[str, ...] = ()
    fresh: bool = False
    spawns: bool = False
    cores: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, as the supervisor saw it; nothing in it comes from the child's own output.

    Attributes:
        signal: its name ("SIGSEGV") when end is "signal".
        peak_memory_bytes: the highest seen, beyond what the zygote brought; None when the child never started.
        cpu_s: processor time of the child and its reaped descendants; None when it was killed or never started.
        detail: the reason of a setup error, or what makes a limit probable.
        start_ms: from the request to the child's first line.
    """

    end: End
    exit_code: int | None
    signal: str | None
    run_time_s: float
    peak_memory_bytes: int | None
    level: Level
    detail: str | None = None
    start_ms: float | None = None
    cpu_s: float | None = None
