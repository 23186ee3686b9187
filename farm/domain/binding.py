"""Bind a stage to inputs and options: a step with its key, its queue and its limits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from farm.domain.catalogue import Target
from farm.domain.codec import digest, encode
from farm.domain.errors import EnvironmentMissing
from farm.domain.limits import process_bytes
from farm.domain.plan import Input, PlannedStep, step_key
from farm.domain.stage import ON_TARGET, Kind, StageSpec
from farm.domain.wanted import Wanted, World


def inspect_step(given: Input, spec: StageSpec, world: World) -> PlannedStep:
    """Bind an inspection; it belongs to the file, so nothing of the job is in its key.

    Raises:
        EnvironmentMissing: no live build host has its environment.
    """
    return bind(spec, (given,), spec.options(), world=world, target=None, title=spec.name, wanted=None)


def bind(
    spec: StageSpec,
    inputs: tuple[Input, ...],
    options: Any,
    *,
    world: World,
    target: Target | None,
    title: str,
    wanted: Wanted | None,
) -> PlannedStep:
    """Make a step of a stage: its key, its queue, its limits.

    Without a target it runs on a build host, and nothing of any profile is in its key. A measurement's key holds its
    job, and so does all that a self-test runs on its host: a comparison of yesterday says nothing of today's kernel.

    Raises:
        EnvironmentMissing: no live host that may run it has its environment at this farm's version.
    """
    catalogue, measured = world.catalogue, spec.kind is Kind.MEASURE
    there = wanted if target and spec.kind in ON_TARGET else None
    host = there.host if there else None
    queue = catalogue.queue_for(spec, target, world.hosts, host)
    if queue is None:
        raise _environment_missing(spec, target)
    profile = {name: target.read(name) for name in spec.reads} if target else {}
    encoded = encode(_with_programs(spec, options, queue, world))
    pins = catalogue.pins.get(spec.environment, {})
    key = partial(step_key, spec, options=encoded, profile=profile, pins=pins, inputs=inputs, host=host)
    shared, own = key(job=None), key(job=wanted.job if wanted else None)
    limit_s = wanted.max_runtime_seconds if wanted else None
    return PlannedStep(
        key=own if measured or (there and there.tests_host) else shared,
        stage=spec.name,
        version=spec.version,
        kind=spec.kind.value,
        environment=spec.environment,
        environment_digest=catalogue.locks.get(spec.environment, ""),
        options=encoded,
        profile=profile,
        inputs=inputs,
        queue=queue,
        title=title,
        max_runtime_seconds=min(spec.timeout_s, limit_s or spec.timeout_s),
        memory_bytes=process_bytes(target if there else None, spec.memory_bytes),
        target=target.name if target and spec.kind in ON_TARGET else None,
        reuse_key=shared if measured else None,
        tools={tool: pins[tool] for tool in spec.tools if tool in pins},
        programs={program: encoded[option] for option, program in spec.programs if encoded[option]},
    )


def _with_programs(spec: StageSpec, options: Any, queue: str, world: World) -> Any:
    """Put the programs of a host that may claim it into the options, so into the key: another one, another step."""
    lock = world.catalogue.locks.get(spec.environment)
    able = (host for host in world.hosts if queue in host.serves and host.environments.get(spec.environment) == lock)
    hosts = sorted(able, key=lambda host: host.name)
    found = {
        option: next((digest for host in hosts if (digest := host.environments.get(program))), None)
        for option, program in spec.programs
    }
    return replace(options, **{option: digest for option, digest in found.items() if digest})


def reproduction_step(spec: StageSpec, failing: PlannedStep, *, model: str) -> PlannedStep:
    """Bind the stage that shrinks the model of a step should that step fail: it runs where that step runs.

    Args:
        spec: a stage of kind `minimize`.
        failing: the step that may fail; its key is part of the new one.
        model: the model's name, for the title.
    """
    options = encode(spec.options(stage=failing.stage, options=failing.options, profile=failing.profile))
    identity = {"stage": spec.name, "version": spec.version, "options": options, "failing": failing.key}
    return replace(
        failing,
        key=digest(identity),
        stage=spec.name,
        version=spec.version,
        kind=spec.kind.value,
        options=options,
        title=f"{spec.name} · {model}, where {failing.stage} failed",
        max_runtime_seconds=spec.timeout_s,
        memory_bytes=max(spec.memory_bytes, failing.memory_bytes),
        after=(),
    )


def _environment_missing(spec: StageSpec, target: Target | None) -> EnvironmentMissing:
    where = f"host of {target.name}" if target and spec.kind in ON_TARGET else "build host"
    return EnvironmentMissing(
        f"Stage {spec.name} needs environment {spec.environment}; no live {where} has it at this farm's version.",
        remedy=f"Run `python -m workers.environments install {spec.environment}` there, then restart its worker.",
    )
