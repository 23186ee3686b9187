"""One step as the report tells it: its tools, its arguments, how it ended, and a command that repeats it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from farm.domain.codec import encode
from farm.domain.plan import Input, PlannedStep
from farm.domain.progress import States, StepPhase, StepState
from farm.domain.stage import Kind

HARNESS = "workers.stages.harness"
"""What runs one stage on a folder that holds call.json and the inputs."""
SPECS = ("input_specs", "output_specs", "ranges")
PEAK = "peak_memory_bytes"
"""The fact that says how much memory a transform's run took at most, beyond what its warm process had already."""


def step_entry(state: StepState, planned: PlannedStep | None, states: States) -> dict[str, Any]:
    """Tell a step in the fields of report.schema.json and our own; `planned` is None for an inspection.

    `tools` are those of the attempt, and the plan's pins where an attempt could not tell its own. `log` says by which
    step and attempt `farm logs` and the API list its log; None for a step that never began.
    """
    return {
        "step": state.step,
        "stage": state.stage,
        "state": state.phase.value,
        "key": state.key,
        "reused": state.reused,
        "attempts": state.attempts,
        "isolation": state.isolation,
        "queue_time_s": state.queue_time_s,
        "run_time_s": state.run_time_s,
        "host": state.host,
        "tools": tools_of(state, planned),
        "arguments": _arguments(planned),
        "reproduce": state.reproduce or _repeated(state, planned, states),
        "log": {"step": state.step, "attempt": state.attempts} if state.attempts else None,
        **({PEAK: state.facts[PEAK]} if PEAK in state.facts else {}),
        **_where(planned),
        **_failure(state),
    }


def tools_of(state: StepState, planned: PlannedStep | None) -> list[dict[str, str]]:
    found = dict(state.tool_versions) or (dict(planned.tools) if planned else {})
    return [{"name": name, "version": version} for name, version in sorted(found.items())]


def _where(planned: PlannedStep | None) -> dict[str, str]:
    """Tell a comparison on a build host from the one on the target's own."""
    if planned is None or planned.kind != Kind.COMPARE:
        return {}
    return {"where": "target" if planned.target else "build"}


def _arguments(planned: PlannedStep | None) -> dict[str, Any]:
    """List a stage's options, but for the tensors, which the model's facts tell."""
    options = planned.options if planned else {}
    return {name: value for name, value in options.items() if name not in SPECS}


def _failure(state: StepState) -> dict[str, Any]:
    failure = state.failure
    if failure is None:
        return {}
    return {
        "failure_type": failure.code,
        "who_must_act": failure.who_must_act.value,
        "message": failure.message,
        "remedy": failure.remedy,
        "evidence": dict(failure.evidence),
    }


def _repeated(state: StepState, planned: PlannedStep | None, states: States) -> str | None:
    """Write a command that runs a failed step again in a checkout of the farm, once its inputs lie in ./work."""
    if planned is None or state.phase is not StepPhase.FAILED:
        return None
    model = next((given for given in planned.inputs if given.role == "model"), None)
    maker = states.get(model.step or "") if model else None
    call = {
        "stage": planned.stage,
        "options": planned.options,
        "files": {given.role: _file_name(given, states) for given in planned.inputs},
        "profile": planned.profile,
        "contract": encode(maker.contract) if maker and maker.contract else None,
    }
    written = f"printf %s {shlex.quote(json.dumps(call, ensure_ascii=False))} > work/call.json"
    return f"mkdir -p work && {written} && .envs/{planned.environment}/bin/python -m {HARNESS} work"


def _file_name(given: Input, states: States) -> str:
    """Name an input in the work folder: its own name for a file, its role for a folder or what is not known."""
    maker = states.get(given.step or "")
    made: Mapping[str, Any] = maker.outputs if maker else {}
    artifact = given.artifact or made.get(given.output)
    return given.role if artifact is None or artifact.is_tree else artifact.files[0].name
