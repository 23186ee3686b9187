"""What a measurement takes beyond its latencies: a sweep over threads, and one sustained run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from farm.domain.codec import decode
from farm.domain.errors import ArtifactBroken, ConfigurationError
from farm.domain.measurement import MIN_PROCESSES, ProcessRun, summarize
from farm.domain.scenario import Asked
from farm.domain.statistics.sustained import SustainedRun, sustained
from hardware_profiles.schema import MeasurementPolicy
from workers.host.affinity import quiet_cores
from workers.host.conditions import Watch
from workers.results import Made

T = TypeVar("T", ProcessRun, SustainedRun)
RunOnce = Callable[[Mapping[str, Path] | None, Mapping[str, Any], tuple[int, ...]], Made]
"""Run the stage once: other files than the step's, options to change, cores to pin to."""
SWEPT = ("threads", "p50", "p90", "ci95", "all_inference_times", "process_spread_ratio")


@dataclass(frozen=True, slots=True)
class Further:
    """The runs that come after the timed ones, on the same host."""

    run: RunOnce
    policy: MeasurementPolicy
    cores: tuple[int, ...]

    def take(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Take what the options ask for, in the words of execution_summary; nothing when they ask for nothing."""
        told: dict[str, Any] = {}
        if counts := [int(count) for count in options.get("threads_sweep") or ()]:
            told["threads_sweep"] = [self._with_threads(count) for count in counts]
        if float(options.get("sustained_s") or 0.0) > 0:
            told["sustained"] = self._sustained()
        return told

    def _with_threads(self, count: int) -> dict[str, Any]:
        """Measure with so many threads on as many cores; a host that has not so many says so."""
        try:
            cores = quiet_cores(self.policy, count)
        except ConfigurationError as error:
            return {"threads": count, "why_not": error.message}
        changes = {"threads": count, "threads_sweep": [], "scenario": "single_stream"}
        runs = [read_run(self.run(None, changes, cores)) for _ in range(MIN_PROCESSES)]
        summary = summarize(runs)
        return {name: summary[name] for name in SWEPT}

    def _sustained(self) -> dict[str, Any]:
        with Watch(self.cores) as watch:
            made = self.run(None, {"mode": "sustained"}, self.cores)
        window = watch.window(made.cpu_s)
        temperatures = [(s.taken_s, s.temperature_c) for s in window.samples if s.temperature_c is not None]
        clocks = [
            (s.taken_s, min(s.clocks[core] for core in self.cores if core in s.clocks))
            for s in window.samples
            if any(core in s.clocks for core in self.cores)
        ]
        return {**sustained(_read(SustainedRun, made), temperatures, clocks), "throttled_by": list(window.throttled_by)}


def asked_of(options: Mapping[str, Any]) -> Asked:
    """Read the scenario of a step's options."""
    named = {"scenario", "samples_per_query", "target_qps", "latency_bound_ms"}
    return decode(Asked, {name: value for name, value in options.items() if name in named})


def read_run(made: Made) -> ProcessRun:
    """Read what a process measured.

    Raises:
        ArtifactBroken: it can't be read.
    """
    return _read(ProcessRun, made)


def _read(kind: type[T], made: Made) -> T:
    try:
        return decode(kind, dict(made.facts))
    except ValueError as exc:
        raise ArtifactBroken(f"A measuring process told what can't be read: {exc}") from exc
