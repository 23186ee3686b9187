"""What a measurement takes beyond its latencies: operators' times, energy, a sweep over threads, a sustained run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from farm.domain.codec import decode
from farm.domain.errors import ArtifactBroken, ConfigurationError, RequestError, ToolchainError
from farm.domain.generation import GenerationRun, generates, generation
from farm.domain.measurement import MIN_PROCESSES, ProcessRun, instability, summarize
from farm.domain.operators import OperatorProfile, execution_detail
from farm.domain.scenario import Asked
from farm.domain.statistics.energy import EnergyRun, energy
from farm.domain.statistics.sustained import SustainedRun, sustained
from hardware_profiles.schema import Profile
from workers.host.affinity import quiet_cores
from workers.host.conditions import Watch, Window, breaches
from workers.host.energy import Meter, Metering, find_meter
from workers.results import Made
from workers.runtimes import load_runtimes

T = TypeVar("T", ProcessRun, SustainedRun, OperatorProfile, EnergyRun, GenerationRun)
IDLE_S = 2.0
"""So long a meter is read while nothing runs."""
RunOnce = Callable[[Mapping[str, Path] | None, Mapping[str, Any], tuple[int, ...]], Made]
"""Run the stage once: other files than the step's, options to change, cores to pin to."""
SWEPT = ("threads", "p50", "p90", "ci95", "all_inference_times", "process_spread_ratio")
HEAT = ("throttled", "hot", "clock-low")
"""What a sustained run is there to find out: it does not make it invalid."""


@dataclass(frozen=True, slots=True)
class Further:
    """The runs that come after the timed ones, on the same host, each under conditions of its own.

    Attributes:
        emulated: whether this host is, None where that is not known. Its meter would count another machine's joules.
    """

    run: RunOnce
    host_profile: Profile
    cores: tuple[int, ...]
    emulated: bool | None
    root: Path = Path("/")

    def take(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Take what the options ask for, in the words of execution_summary, each with `conditions: {valid, reasons}`.

        Energy is taken wherever there is a meter, but on a host that is emulated, or may be.
        """
        told: dict[str, Any] = {}
        if self.emulated is False and (meter := find_meter(self.root)) is not None:
            told["energy"] = self._energy(meter)
        if counts := [int(count) for count in options.get("threads_sweep") or ()]:
            told["threads_sweep"] = [self._with_threads(count) for count in counts]
        if generates(spec["name"] for spec in options.get("input_specs") or ()):
            told["generation"] = self._generation()
        if float(options.get("sustained_s") or 0.0) > 0:
            told["sustained"] = self._sustained()
        return told

    def profile(self, runtime: str) -> dict[str, Any]:
        """Have the operators timed by a process of its own; a profiler that fails spoils no measurement."""
        if load_runtimes()[runtime].profile is None:
            return execution_detail(OperatorProfile((), f"Runtime {runtime} has no profiler that this farm knows."))
        if self.host_profile.emulated:
            return execution_detail(
                OperatorProfile((), "The host is emulated: the times of its operators say nothing.")
            )
        try:
            profile = _read(OperatorProfile, self.run(None, {"mode": "profile"}, self.cores))
        except (ToolchainError, RequestError) as error:
            profile = OperatorProfile((), f"The operators could not be timed: {error.message}")
        return execution_detail(profile)

    def _energy(self, meter: Meter) -> dict[str, Any]:
        """Read the meter while nothing runs, then while one process does."""
        with Watch(self.cores, self.root) as watch, Metering(meter, self.root) as metering:
            idle_from_s = time.monotonic()
            time.sleep(IDLE_S)
            idle_until_s = time.monotonic()
            made = self.run(None, {"mode": "energy"}, self.cores)
        run = _read(EnergyRun, made)
        named = {"meter": meter.name, "covers": meter.covers, "conditions": self._conditions(_window(watch, [made]))}
        if metering.is_broken:
            return {**named, "energy_per_inference_mj": None, "why_not": "the meter failed, or counted backwards"}
        return named | energy(metering.readings, idle=(idle_from_s, idle_until_s), run=run)

    def _with_threads(self, count: int) -> dict[str, Any]:
        """Measure with so many threads on as many cores; a host that has not so many says so."""
        policy = self.host_profile.measurement
        try:
            cores = quiet_cores(policy, count, self.root)
        except ConfigurationError as error:
            return {"threads": count, "why_not": error.message}
        changes = {"threads": count, "threads_sweep": [], "scenario": "single_stream"}
        with Watch(cores, self.root) as watch:
            made = [self.run(None, changes, cores) for _ in range(MIN_PROCESSES)]
        runs = [read_run(one) for one in made]
        summary = summarize(runs)
        conditions = self._conditions(_window(watch, made), instability(runs, spread_max=policy.spread_max))
        return {name: summary[name] for name in SWEPT} | {"conditions": conditions}

    def _generation(self) -> dict[str, Any]:
        with Watch(self.cores, self.root) as watch:
            made = self.run(None, {"mode": "generation"}, self.cores)
        return generation(_read(GenerationRun, made)) | {"conditions": self._conditions(_window(watch, [made]))}

    def _sustained(self) -> dict[str, Any]:
        with Watch(self.cores, self.root) as watch:
            made = self.run(None, {"mode": "sustained"}, self.cores)
        window = _window(watch, [made])
        temperatures = [(s.taken_s, s.temperature_c) for s in window.samples if s.temperature_c is not None]
        clocks = [
            (s.taken_s, min(s.clocks[core] for core in self.cores if core in s.clocks))
            for s in window.samples
            if any(core in s.clocks for core in self.cores)
        ]
        return {
            **sustained(_read(SustainedRun, made), temperatures, clocks),
            "throttled_by": list(window.throttled_by),
            "conditions": self._conditions(window, but=HEAT),
        }

    def _conditions(self, window: Window, unstable: Sequence[str] = (), *, but: Sequence[str] = ()) -> dict[str, Any]:
        """Tell whether figures taken in this window count, by the same rules as the latencies."""
        broken = breaches(window, self.host_profile.measurement, self.emulated)
        reasons = [reason for reason in (*broken, *unstable) if reason not in but]
        return {"valid": not reasons, "reasons": reasons}


def _window(watch: Watch, made: Sequence[Made]) -> Window:
    return watch.window(sum(one.cpu_s or 0.0 for one in made))


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
