"""Put another step in the place of one of a branch's: what reads its outputs is made anew, under keys of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from farm.domain.codec import digest
from farm.domain.plan import Branch, Input, PlannedStep


def made_anew(step: PlannedStep, *, options: Mapping[str, Any], inputs: tuple[Input, ...]) -> PlannedStep:
    """Return a step with other options or inputs; its key holds the old one and both of them."""
    said = {"options": options, "inputs": [one.identity for one in inputs]}
    return replace(
        step,
        key=digest({"of": step.key, **said}),
        reuse_key=digest({"of": step.reuse_key, **said}) if step.reuse_key else None,
        options=options,
        inputs=inputs,
    )


def rekeyed(steps: Mapping[str, PlannedStep], branch: Branch, old: str, instead: PlannedStep) -> dict[str, PlannedStep]:
    """Give `instead` and the steps of a branch that read, through others too, what `old` made; by their old keys."""
    made = {old: instead}
    for key in branch.steps:
        step = steps[key]
        if key in made or not any(need in made for need in step.needs):
            continue
        anew = made_anew(step, options=step.options, inputs=tuple(_renamed_input(one, made) for one in step.inputs))
        made[key] = replace(anew, after=tuple(made[need].key if need in made else need for need in step.after))
    return made


def renamed(branch: Branch, made: Mapping[str, PlannedStep]) -> Branch:
    """Return a branch over the new steps; its failures are not shrunk."""

    def new(key: str) -> str:
        return made[key].key if key in made else key

    def maybe(key: str | None) -> str | None:
        return new(key) if key else None

    return replace(
        branch,
        steps=tuple(new(key) for key in branch.steps),
        artifact=replace(branch.artifact, step=maybe(branch.artifact.step)),
        compare=new(branch.compare),
        measure=new(branch.measure),
        evaluate=maybe(branch.evaluate),
        probe=maybe(branch.probe),
        checks=tuple(replace(check, step=maybe(check.step)) for check in branch.checks),
        layers=replace(branch.layers, step=maybe(branch.layers.step)) if branch.layers else None,
        reproductions={},
    )


def _renamed_input(given: Input, made: Mapping[str, PlannedStep]) -> Input:
    return replace(given, step=made[given.step].key) if given.step is not None and given.step in made else given
