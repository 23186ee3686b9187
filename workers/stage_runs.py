"""One run of one stage in the sandbox: the call laid down, the child run, what it left read as a stranger's."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from farm.domain.stage import TRANSFORMS, Kind, StageSpec
from farm.domain.step_entry import PEAK
from workers.host.nodes import nodes_of
from workers.results import Made, read_result
from workers.runtimes import load_runtimes
from workers.sandbox import Call, Limits, Sandbox
from workers.stages import preload_of

ENTRY = "workers.stages.harness:main"
DISK_BYTES = 40 << 30
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StageCall:
    """A stage and what it is given; `environment` and `preload` only where they differ from the stage's own."""

    spec: StageSpec
    files: Mapping[str, Path]
    options: Mapping[str, Any]
    wall_s: float
    memory_bytes: int
    profile: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] | None = None
    cores: tuple[int, ...] | None = None
    environment: str | None = None
    preload: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the stages of one step run on this host."""

    sandbox: Sandbox
    environments: Path
    file_bytes: int
    step: str

    def run(self, asked: StageCall, work: Path, stop: threading.Event) -> Made:
        """Run a stage in the new folder `work`.

        Raises:
            FarmError: the failure the stage told, or how its process ended; the runtime's device is not there.
        """
        work.mkdir(mode=0o711)
        told = {
            "stage": asked.spec.name,
            "options": asked.options,
            "files": {role: str(path) for role, path in asked.files.items()},
            "profile": asked.profile,
            "contract": asked.contract,
        }
        (work / "call.json").write_text(json.dumps(told))
        call = self._call(asked, work)
        ending = self.sandbox.run(call, cancel=stop)
        log.info(
            "A run of the stage ended.",
            action="run",
            end=ending.end,
            run_time_ms=round(ending.run_time_s * 1000, 1),
            stage=asked.spec.name,
            start_ms=round(ending.start_ms or 0.0, 1),
            step_id=self.step,
        )
        made = read_result(work, ending, call, asked.spec)
        return with_peak(made, ending.peak_memory_bytes, asked.spec.kind)

    def _call(self, asked: StageCall, work: Path) -> Call:
        spec = asked.spec
        limits = Limits(
            wall_s=asked.wall_s,
            memory_bytes=asked.memory_bytes,
            disk_bytes=DISK_BYTES,
            file_bytes=self.file_bytes,
        )
        return Call(
            environment=self.environments / (asked.environment or spec.environment),
            entry=ENTRY,
            work=work,
            readable=tuple(asked.files.values()),
            limits=limits,
            preload=preload_of(spec) if asked.preload is None else asked.preload,
            fresh=spec.fresh,
            spawns=spec.spawns,
            cores=asked.cores,
            devices=devices_of(spec),
        )


def with_peak(made: Made, peak_memory_bytes: int | None, kind: Kind) -> Made:
    """Add to a transform's facts the most memory that its run took, beyond what its warm process had already."""
    if kind not in TRANSFORMS or peak_memory_bytes is None:
        return made
    return replace(made, facts={**made.facts, PEAK: peak_memory_bytes})


def devices_of(spec: StageSpec) -> tuple[Path, ...]:
    """List the nodes of the device that a stage's runtime works with.

    Raises:
        HostError: this host has no such device.
    """
    runtime = load_runtimes().get(spec.runtime or "")
    return () if runtime is None or runtime.device is None else nodes_of(runtime.device)
