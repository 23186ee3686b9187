"""A measurement: fresh processes, alternated with the pinned reference model, under recorded conditions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.codec import decode
from farm.domain.errors import ArtifactBroken
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
            ArtifactBroken: it reported nothing that can be read.
        """
        cores = quiet_cores(self.profile.measurement, threads)
        reference = {"model": reference_model(runtime)}
        runs: list[ProcessRun] = []
        references: list[ProcessRun] = []
        batch = 0
        made: list[Made] = []
        with Watch(cores) as watch:
            for _ in range(PROCESSES):
                made += [run(reference, REFERENCE_OPTIONS, cores), run(None, {"batch": batch}, cores)]
                references.append(_times(made[-2]))
                runs.append(_times(made[-1]))
                batch = runs[0].batch
        window = watch.window(sum(one.cpu_s or 0.0 for one in made))
        peak = _times(run(None, {"mode": "memory"}, cores)).peak_memory_bytes
        policy = self.profile.measurement
        unstable = stability(runs, references, spread_max=policy.spread_max, drift_max=policy.drift_max)
        facts = {
            "execution_summary": summarize(runs, references, [peak] if peak else []),
            "conditions": envelope(window, facts=probe(), host=self.host, profile=self.profile, reasons=unstable),
        }
        return Made(facts=facts, tool_versions=made[-1].tool_versions, reproduce=made[-1].reproduce)


def _times(made: Made) -> ProcessRun:
    try:
        return decode(ProcessRun, dict(made.facts))
    except ValueError as exc:
        raise ArtifactBroken(f"A measuring process told what can't be read: {exc}") from exc
