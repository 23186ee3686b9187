"""Run the plans of real stages without hosts: every step but measurements runs for real, in its own environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from farm.domain.artifact import Contract
from farm.domain.codec import decode
from farm.domain.plan import PlannedStep
from farm.domain.progress import StepPhase
from tests.domain_run import Run
from tests.domain_world import file
from tests.stage_fixtures import Answer, Call, run_calls


def run_all(runs: Mapping[str, Run], files: Mapping[str, Path], folder: Path, *, loop: tuple[str, ...]) -> None:
    """Let every run end; what is ready in any of them runs in one process of its environment.

    Args:
        runs: by a name.
        files: what was submitted, by role.
        folder: where to work.
        loop: what Python runs on the folders of calls (see run_calls).
    """
    made: dict[str, dict[str, Answer]] = {name: {} for name in runs}
    for wave in range(20):
        waiting = {(name, step.key): step for name, run in runs.items() for step in run.ready}
        if not waiting:
            return
        for environment in {step.environment for step in waiting.values()}:
            calls = {
                f"{name} {key}": _call(step, made[name], files)
                for (name, key), step in waiting.items()
                if step.environment == environment and step.kind != "measure"
            }
            found = run_calls(environment, calls, folder / f"{wave}-{environment}", loop=loop) if calls else {}
            for name, key in waiting:
                made[name] |= {key: found[f"{name} {key}"]} if f"{name} {key}" in found else {}
        for (name, key), step in waiting.items():
            _end(runs[name], step, made[name].get(key))
    raise AssertionError("the plans do not end")


def _call(step: PlannedStep, made: Mapping[str, Answer], files: Mapping[str, Path]) -> Call:
    found, contract = {}, None
    for given in step.inputs:
        found[given.role] = made[given.step].output(given.output) if given.step else files[given.role]
        if given.role == "model" and given.step:
            contract = made[given.step].result.get("contract")
    return Call(step.stage, found, dict(step.options), contract)


def _end(run: Run, step: PlannedStep, answer: Answer | None) -> None:
    """Tell the run how a step ended; a measurement ends with figures that stand for some host's."""
    if answer is None:
        run.succeed(step)
        return
    assert "failure" not in answer.result, answer.result
    contract = answer.result.get("contract")
    run._end(
        step,
        phase=StepPhase.SUCCEEDED,
        facts=answer.facts,
        outputs={name: file(f"{step.key[:8]}-{name}") for name in answer.result["outputs"]},
        contract=decode(Contract, contract) if contract else None,
    )
