"""A measurement: fresh processes, alternated with the pinned reference model, under recorded conditions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm.domain.errors import ArtifactBroken, BadMeasurement, ConfigurationError, Incompatible
from farm.domain.measurement import Ended, ProcessRun, instability, refuse_nonsense, summarize
from farm.domain.scenario import Scenario
from farm.domain.statistics.quantiles import alike
from farm.domain.statistics.stability import StabilityRule
from hardware_profiles.schema import Profile
from workers.further import Further, RunOnce, asked_of, read_run
from workers.host.affinity import quiet_cores
from workers.host.conditions import Watch, envelope
from workers.host.probe import probe
from workers.results import Made
from workers.runtimes.reference_model import reference_model

REFERENCE_OPTIONS = {
    "min_runs": 30,
    "min_s": 0.2,
    "max_s": 5.0,
    "input_specs": [],
    "output_specs": [],
    "scenario": Scenario.SINGLE_STREAM.value,
}
"""The reference only has to show whether the host drifts meanwhile; its inputs are its own."""
EMULATED_REFERENCE_OPTIONS = {**REFERENCE_OPTIONS, "min_runs": 3, "min_s": 0.0, "max_s": 0.5}
"""Emulated times are never valid, drift or not: just enough to fill the report, for each run takes half a second."""

ONCE = StabilityRule(processes_min=1, processes_max=1)
"""A short measurement ranks candidates of a search by time; one process is never a valid measurement."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The host as a measuring instrument."""

    host: str
    profile: Profile
    rule: StabilityRule = field(default_factory=StabilityRule)
    root: Path = Path("/")
    """Where the host's state is read: / but in tests, which read trees of other machines."""

    def measure(self, run: RunOnce, *, runtime: str, options: Mapping[str, Any]) -> Made:
        """Measure one artifact; memory is taken in a process of its own, after the timed ones; a short one takes none.

        Args:
            run: starts one process.
            runtime: whose reference model runs beside the artifact.
            options: the step's (MeasureOptions); what they ask for beyond one scenario is run after that.

        Raises:
            Incompatible: it asks for more threads than the host has cores.
            BadMeasurement: a process reported what no clock gives.
            ArtifactBroken: it reported nothing that can be read.
        """
        cores = self._cores(int(options.get("threads", 1)))
        with Watch(cores, self.root) as watch:
            rule = ONCE if options.get("short") else self.rule
            taken = self._alternate(run, {"model": reference_model(runtime)}, cores, rule)
        window = watch.window(sum(one.cpu_s or 0.0 for one in taken.made))
        memory = None if options.get("short") else read_run(run(None, {"mode": "memory"}, cores))
        policy = self.profile.measurement
        unstable = instability(taken.runs, taken.references, spread_max=policy.spread_max, drift_max=policy.drift_max)
        peaks = [memory.peak_memory_bytes] if memory and memory.peak_memory_bytes else []
        summary = summarize(taken.runs, taken.references, peaks, ended=taken.ended, asked=asked_of(options))
        machine = probe(self.root)
        more = Further(run, self.profile, cores, machine.emulated, self.root)
        conditions = envelope(window, facts=machine, host=self.host, profile=self.profile, reasons=unstable)
        summary |= {"inference_memory_pss_bytes": memory.pss_bytes if memory else None}
        if options.get("short"):
            facts = {"execution_summary": summary, "conditions": conditions | {"cool_down_s": None}}
        else:
            facts = {
                "execution_summary": summary | more.take(options),
                "conditions": conditions,
                **more.profile(runtime),
            }
        last = taken.made[-1]
        return Made(facts=facts, tool_versions=last.tool_versions, reproduce=last.reproduce)

    def _cores(self, threads: int) -> tuple[int, ...]:
        try:
            return quiet_cores(self.profile.measurement, threads, self.root)
        except ConfigurationError as error:
            if threads <= max(self.profile.measurement.threads):
                raise
            raise Incompatible(
                f"{threads} threads were asked for on host {self.host}. {error.message}",
                remedy="Ask for fewer --threads, or for another host.",
            ) from error

    def _alternate(
        self, run: RunOnce, reference: Mapping[str, Path], cores: tuple[int, ...], rule: StabilityRule
    ) -> Taken:
        """Run the reference model and the artifact in turn, until the stability rule has enough of them."""
        taken = Taken([], [], [])
        options = EMULATED_REFERENCE_OPTIONS if self.profile.emulated else REFERENCE_OPTIONS
        started = time.monotonic()
        while True:
            batch = taken.runs[0].batch if taken.runs else 0
            changes = {"batch": batch, "process": len(taken.runs)}
            taken.add(run(reference, options, cores), run(None, changes, cores))
            elapsed_s = time.monotonic() - started
            ending = rule.ending(alike([one.times_us for one in taken.runs]), elapsed_s)
            if ending is not None:
                taken.ended = Ended(rule, ending, elapsed_s)
                return taken


@dataclass(slots=True)
class Taken:
    """What the processes of one measurement told, in the order they ran."""

    runs: list[ProcessRun]
    references: list[ProcessRun]
    made: list[Made]
    ended: Ended | None = None

    def add(self, reference: Made, candidate: Made) -> None:
        """Take one round.

        Raises:
            BadMeasurement: a process took no times, or such that no clock gives.
            ArtifactBroken: only the artifact's processes did: their host times the reference model well.
        """
        self.made += [reference, candidate]
        self.references.append(read_run(reference))
        self.runs.append(read_run(candidate))
        try:
            refuse_nonsense(self.runs, self.references)
        except BadMeasurement as error:
            if any(problem.startswith("reference") for problem in error.evidence["problems"]):
                raise
            raise ArtifactBroken(
                f"The artifact's own process reported what can't be measured, beside a sound reference model: "
                f"{'; '.join(error.evidence['problems'])}.",
                **error.evidence,
            ) from error
