"""A measurement: fresh processes, alternated with the pinned reference model, under recorded conditions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm.domain.codec import decode
from farm.domain.errors import ArtifactBroken
from farm.domain.measurement import Ended, ProcessRun, instability, refuse_nonsense, summarize
from farm.domain.statistics.quantiles import thinned
from farm.domain.statistics.stability import StabilityRule
from hardware_profiles.schema import Profile
from workers.host.affinity import quiet_cores
from workers.host.conditions import Watch, envelope
from workers.host.probe import probe
from workers.results import Made
from workers.runtimes.reference_model import reference_model

REFERENCE_OPTIONS = {"min_runs": 30, "min_s": 0.2, "max_s": 5.0, "input_specs": [], "output_specs": []}
"""The reference only has to show whether the host drifts meanwhile; its inputs are its own."""
EMULATED_REFERENCE_OPTIONS = {**REFERENCE_OPTIONS, "min_runs": 3, "min_s": 0.0, "max_s": 0.5}
"""Emulated times are never valid, drift or not: just enough to fill the report, for each run takes half a second."""

RunOnce = Callable[[Mapping[str, Path] | None, Mapping[str, Any], tuple[int, ...]], Made]
"""Run the stage once: other files than the step's, options to change, cores to pin to."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The host as a measuring instrument."""

    host: str
    profile: Profile
    rule: StabilityRule = field(default_factory=StabilityRule)

    def measure(self, run: RunOnce, *, runtime: str, threads: int, stop: threading.Event) -> Made:
        """Measure one artifact; memory is taken in a process of its own, after the timed ones.

        Raises:
            BadMeasurement: a process reported what no clock gives.
            ArtifactBroken: it reported nothing that can be read.
        """
        cores = quiet_cores(self.profile.measurement, threads)
        with Watch(cores) as watch:
            taken = self._alternate(run, {"model": reference_model(runtime)}, cores)
        window = watch.window(sum(one.cpu_s or 0.0 for one in taken.made))
        peak = _times(run(None, {"mode": "memory"}, cores)).peak_memory_bytes
        policy = self.profile.measurement
        unstable = instability(taken.runs, taken.references, spread_max=policy.spread_max, drift_max=policy.drift_max)
        facts = {
            "execution_summary": summarize(taken.runs, taken.references, [peak] if peak else [], ended=taken.ended),
            "conditions": envelope(window, facts=probe(), host=self.host, profile=self.profile, reasons=unstable),
        }
        last = taken.made[-1]
        return Made(facts=facts, tool_versions=last.tool_versions, reproduce=last.reproduce)

    def _alternate(self, run: RunOnce, reference: Mapping[str, Path], cores: tuple[int, ...]) -> _Taken:
        """Run the reference model and the artifact in turn, until the stability rule has enough of them."""
        taken = _Taken([], [], [])
        options = EMULATED_REFERENCE_OPTIONS if self.profile.emulated else REFERENCE_OPTIONS
        started = time.monotonic()
        while True:
            batch = taken.runs[0].batch if taken.runs else 0
            taken.add(run(reference, options, cores), run(None, {"batch": batch}, cores))
            elapsed_s = time.monotonic() - started
            ending = self.rule.ending([thinned(one.times_us) for one in taken.runs], elapsed_s)
            if ending is not None:
                taken.ended = Ended(self.rule, ending, elapsed_s)
                return taken


@dataclass(slots=True)
class _Taken:
    """What the processes of one measurement told, in the order they ran."""

    runs: list[ProcessRun]
    references: list[ProcessRun]
    made: list[Made]
    ended: Ended | None = None

    def add(self, reference: Made, candidate: Made) -> None:
        """Take one round.

        Raises:
            BadMeasurement: a process took no times, or such that no clock gives.
        """
        self.made += [reference, candidate]
        self.references.append(_times(reference))
        self.runs.append(_times(candidate))
        refuse_nonsense(self.runs, self.references)


def _times(made: Made) -> ProcessRun:
    try:
        return decode(ProcessRun, dict(made.facts))
    except ValueError as exc:
        raise ArtifactBroken(f"A measuring process told what can't be read: {exc}") from exc
