"""What is asked of the sandbox and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import threading

End = Literal["exit", "signal", "wall", "memory", "disk", "cancelled", "setup"]

OUT_OF_MEMORY_EXIT = 97
"""Exit code of a child whose entry raised MemoryError."""

OF_THE_MACHINE = ("/sys", "/proc", "/dev")
"""What is this machine's wherever a child looks at it."""


class Level(StrEnum):
    """How strong the isolation is, as proven by probes.

    FULL: namespaces, landlock, seccomp, limits. PARTIAL: the same without namespaces. NONE: limits only.
    OUTSIDE: all of FULL, set around an emulator by a native process, since they don't exist within it.
    """

    FULL = "full"
    PARTIAL = "partial"
    NONE = "none"
    OUTSIDE = "outside"

    @property
    def has_namespaces(self) -> bool:
        return self in (Level.FULL, Level.OUTSIDE)


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
class Foreign:
    """A root of another architecture, in which a child runs under an emulator.

    Attributes:
        root: the root's folder on this machine.
        emulator, environment: paths within it.
        cpu: the processor the emulator shows.
        cpuinfo: file of this machine that stands in for /proc/cpuinfo.
        kept: folders that lie within at the same path as here, and are this machine's.
    """

    root: str
    emulator: str
    environment: str
    cpu: str
    cpuinfo: str
    kept: tuple[str, ...]

    def locate(self, path: str) -> str:
        """Say where on this machine something lies that the child sees at `path`."""
        ours = (*self.kept, *OF_THE_MACHINE)
        return path if any(path == own or path.startswith(f"{own}/") for own in ours) else self.root + path


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
        foreign: where the child's interpreter is, when it is none of this machine's; `environment` is this machine's
            then, which only starts it.
        devices: nodes of accelerators that the child may read, write and control.
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
    foreign: Foreign | None = None
    devices: tuple[Path, ...] = ()


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


class Isolation(Protocol):
    """What runs calls in isolated children, on this machine or around an emulator."""

    @property
    def level(self) -> Level: ...

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Ending: ...

    def warm(self, environment: Path, preload: tuple[str, ...] = ()) -> None: ...
