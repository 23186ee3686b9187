"""A measurement: fresh processes, alternated with the pinned reference model, under recorded conditions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.codec import decode
from farm.domain.measurement import ProcessRun, stability, summarize
from hardware_profiles.schema import Profile
from workers.host.affinity import quiet_cores
from workers.host.conditions import Watch, envelope
from workers.host.probe import probe
from workers.results import Made
from workers.runtimes.reference_model import reference_model

PROCESSES = 3
REFERENCE_OPTIONS = {"min_runs": 30, "min_s": 0.2, "max_s": 5.0, "input_specs": [], "output_specs": []}
"""The reference only has to show whether the host drifts meanwhile; its inputs are its own."""

RunOnce = Callable[[Mapping[str, Path] | None, Mapping[str, Any], tuple[int, ...]], Made]
"""Run the stage once: other files than the step's, options to change, cores to pin to."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The host as a measuring instrument."""

    host: str
    profile: Profile

    def measure(self, run: RunOnce, *, runtime: str, threads: int, stop: threading.Event) -> Made:
        """Measure one artifact; memory is taken in a process of its own, after the timed ones.

        Raises:
            BadMeasurement: a process reported what no clock gives.
        """
        cores = quiet_cores(self.profile.measurement, threads)
        reference = {"model": reference_model(runtime)}
        runs: list[ProcessRun] = []
        references: list[ProcessRun] = []
        batch = 0
        used_before_s = _cpu_of_children_s()
        with Watch(cores) as watch:
            for _ in range(PROCESSES):
                references.append(_times(run(reference, REFERENCE_OPTIONS, cores)))
                last = run(None, {"batch": batch}, cores)
                runs.append(_times(last))
                batch = runs[0].batch
        window = watch.window(_cpu_of_children_s() - used_before_s)
        peak = _times(run(None, {"mode": "memory"}, cores)).peak_memory_bytes
        policy = self.profile.measurement
        unstable = stability(runs, references, spread_max=policy.spread_max, drift_max=policy.drift_max)
        facts = {
            "execution_summary": summarize(runs, references, [peak] if peak else []),
            "conditions": envelope(window, facts=probe(), host=self.host, profile=self.profile, reasons=unstable),
        }
        return Made(facts=facts, tool_versions=last.tool_versions, reproduce=last.reproduce)


def _times(made: Made) -> ProcessRun:
    return decode(ProcessRun, dict(made.facts))


def _cpu_of_children_s() -> float:
    """Sum the processor time of ended children: while the host is held alone, those are the measuring processes."""
    spent = os.times()
    return spent.children_user + spent.children_system
