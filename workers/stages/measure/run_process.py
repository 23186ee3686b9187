"""Measure an artifact in this process, once: the worker starts several, alternated with the reference model.

One stage per deployable runtime, named measure-<runtime>; exec'd fresh on the target's host, never forked.
Defaults follow TensorFlow Lite's benchmark tool: at least 50 runs and 1 s.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.codec import encode
from farm.domain.facts import TensorSpec
from farm.domain.generation import GenerationRun
from farm.domain.measurement import ProcessRun
from farm.domain.operators import OperatorProfile
from farm.domain.scenario import Asked, Scenario
from farm.domain.stage import Kind, Options, StageInput, StageOutput, always, stage
from farm.domain.statistics.energy import EnergyRun
from farm.domain.statistics.sustained import SustainedRun
from workers.runtimes import Profiling, Runtime, Session, deployable_runtimes
from workers.stages.compare.run_artifact import declared_contract, open_artifact
from workers.stages.measure.generation import generate
from workers.stages.measure.memory import peak_bytes, pss_bytes, reset_peak
from workers.stages.measure.scenarios import answer
from workers.stages.measure.sustaining import run_for, run_on
from workers.stages.measure.timing import Effort, time_calls
from workers.stages.samples import artifact_ranges, seeded_probe

if TYPE_CHECKING:
    from workers.runtimes import Arrays

MEMORY_RUNS = 3
PROFILED_CALLS = 10
LONGEST_S = 1800.0
"""One process may take so long: a sustained run lasts ten minutes and more."""


class Mode(StrEnum):
    """What one process does.

    It takes times, makes a few calls and reads the peak of memory, has its operators timed, runs on and on, does so
    while the worker reads an energy meter, or makes text with a decoder's step.
    """

    LATENCY = "latency"
    MEMORY = "memory"
    PROFILE = "profile"
    SUSTAINED = "sustained"
    ENERGY = "energy"
    GENERATION = "generation"


@dataclass(frozen=True, slots=True)
class MeasureOptions(Options):
    """What one process does, and for how long.

    `batch` fixes how many calls make one sample,
    so that every process of a measurement takes the same; 0 chooses (timing.py says how).

    What the worker does with more processes is here too, since it is part of what was asked for: a sweep over
    `threads_sweep`, and one sustained run of `sustained_s` (0: none). `latency_bound_ms` is server's.
    `process` numbers the processes of a measurement: each has a schedule of its own.
    `short` has it take one process and nothing beyond: a search ranks its candidates by that.
    """

    mode: Mode = Mode.LATENCY
    threads: int = 1
    warmup_runs: int = 3
    min_runs: int = 50
    min_s: float = 1.0
    max_s: float = 30.0
    batch: int = 0
    scenario: Scenario = Scenario.SINGLE_STREAM
    samples_per_query: int = 8
    target_qps: float = 10.0
    latency_bound_ms: float | None = None
    threads_sweep: tuple[int, ...] = ()
    sustained_s: float = 0.0
    energy_s: float = 5.0
    short: bool = False
    process: int = 0


Told = ProcessRun | SustainedRun | OperatorProfile | EnergyRun | GenerationRun


def run_process(runtime: Runtime, given: StageInput) -> StageOutput:
    """Load the artifact, call it with one seeded input, and report times in microseconds.

    Args:
        runtime: what executes it.
        given: files["model"]; the contract's sizes are taken for axes that the file leaves open.
    Returns: facts, the JSON of what its mode tells.
    Raises: ArtifactBroken when it does not load.
    """
    options: MeasureOptions = given.options
    for module in runtime.preload:
        importlib.import_module(module)
    measures: dict[Mode, Callable[[Runtime, StageInput, MeasureOptions], Told]] = {
        Mode.LATENCY: _measure_latency,
        Mode.MEMORY: _measure_memory,
        Mode.PROFILE: _profile,
        Mode.SUSTAINED: _measure_sustained,
        Mode.ENERGY: _run_for_meter,
        Mode.GENERATION: _generate,
    }
    return StageOutput(facts=encode(measures[options.mode](runtime, given, options)))


def _measure_latency(runtime: Runtime, given: StageInput, options: MeasureOptions) -> ProcessRun:
    path = given.files["model"]
    session, first_load_us = _timed_load(runtime, path, options.threads)
    effort = Effort(options.warmup_runs, options.min_runs, options.min_s, options.max_s, options.batch)
    asked = Asked(options.scenario, options.samples_per_query, options.target_qps)
    answered = answer(_call(session, given), asked, effort, process=options.process)
    timed = answered.timed
    _, warm_load_us = _timed_load(runtime, path, options.threads)
    return ProcessRun(
        times_us=timed.times_us,
        cpu_times_us=timed.cpu_times_us,
        first_load_us=first_load_us,
        warm_load_us=warm_load_us,
        first_inference_us=timed.first_us,
        peak_memory_bytes=None,
        threads=options.threads,
        batch=timed.batch,
        samples=answered.samples,
        elapsed_s=answered.elapsed_s,
    )


def _measure_memory(runtime: Runtime, given: StageInput, options: MeasureOptions) -> ProcessRun:
    """Count from before the model is opened, so that the peak holds interpreter, runtime, model and activations."""
    reset_peak()
    session, first_load_us = _timed_load(runtime, given.files["model"], options.threads)
    timed = time_calls(_call(session, given), Effort(1, MEMORY_RUNS, 0.0, options.max_s, 1))
    return ProcessRun(
        times_us=timed.times_us,
        first_load_us=first_load_us,
        warm_load_us=None,
        first_inference_us=timed.first_us,
        peak_memory_bytes=peak_bytes(),
        threads=options.threads,
        pss_bytes=pss_bytes(),
    )


def _measure_sustained(runtime: Runtime, given: StageInput, options: MeasureOptions) -> SustainedRun:
    session, _ = _timed_load(runtime, given.files["model"], options.threads)
    return run_on(_call(session, given), options.sustained_s)


def _profile(runtime: Runtime, given: StageInput, options: MeasureOptions) -> OperatorProfile:
    if runtime.profile is None:
        return OperatorProfile((), f"Runtime {runtime.name} has no profiler that this farm knows.")
    session = open_artifact(runtime, given.files["model"], threads=options.threads)
    asked = Profiling(_feeds(session, given), given.work, options.threads, PROFILED_CALLS)
    return runtime.profile(given.files["model"], asked)


def _run_for_meter(runtime: Runtime, given: StageInput, options: MeasureOptions) -> EnergyRun:
    session, _ = _timed_load(runtime, given.files["model"], options.threads)
    call = _call(session, given)
    for _ in range(options.warmup_runs):
        call()
    return run_for(call, options.energy_s)


def _generate(runtime: Runtime, given: StageInput, options: MeasureOptions) -> GenerationRun:
    reset_peak()
    session, _ = _timed_load(runtime, given.files["model"], options.threads)
    return generate(session, declared_contract(given))


def _timed_load(runtime: Runtime, path: Path, threads: int) -> tuple[Session, float]:
    started = time.perf_counter_ns()
    session = open_artifact(runtime, path, threads=threads)
    return session, (time.perf_counter_ns() - started) / 1000


def _call(session: Session, given: StageInput) -> Callable[[], object]:
    feeds = _feeds(session, given)
    return lambda: session.run(feeds)


def _feeds(session: Session, given: StageInput) -> Arrays:
    contract = declared_contract(given)
    declared = {binding.artifact.name: binding.artifact for binding in contract.inputs}
    specs = tuple(_sized(spec, declared.get(spec.name)) for spec in session.inputs)
    return seeded_probe(specs, artifact_ranges(contract, given.options.ranges), positive=True)


def _sized(spec: TensorSpec, declared: TensorSpec | None) -> TensorSpec:
    """Give open axes the size the contract says, or 1."""
    if declared is not None and declared.shape is not None and not declared.open_axes:
        return spec.with_shape(declared.shape)
    return spec.with_shape(tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape or ()))


def _register(runtime: Runtime) -> None:
    stage(
        name=f"measure-{runtime.name}",
        version="4",
        kind=Kind.MEASURE,
        environment=runtime.environment,
        check=always,
        runtime=runtime.name,
        options=MeasureOptions,
        reads=("name",),
        tools=runtime.tools,
        preload=runtime.preload,
        timeout_s=LONGEST_S,
        fresh=True,
    )(partial(run_process, runtime))


for _runtime in deployable_runtimes():
    _register(_runtime)
