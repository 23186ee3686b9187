"""The report's result, told from the plan and what its steps found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from farm.domain.bisection import OTHER_HOST, Figure, LayerFigures, bisect
from farm.domain.errors import Actor, Failure, NumericsBroken, ToolTimedOut
from farm.domain.pace import Pace, beside_float
from farm.domain.plan import SOURCE, Branch, Check, Plan, PlannedResult
from farm.domain.progress import (
    ENDED,
    Progress,
    States,
    StepPhase,
    StepState,
    artifact_of,
    branch_failure,
    reproduction_of,
)
from farm.domain.recipe import BASELINE, RECIPES
from farm.domain.search import Fate, known_of, standing
from farm.domain.step_entry import step_entry
from farm.domain.together import of_together, told_of_each
from farm.domain.verdict import Verdict, judge

DROPPED = "dropped"
"""The field of a concluded result that says why it was given up before it was measured."""
STAGE_FACTS = ("sensitivity", "keep_float", "edgetpu")
"""Facts of a branch's stages that a result shows; what a later stage says of one counts."""
REPRO, REPRO_FILE = "repro", "repro.zip"
"""The output of a step that shrinks a failure, and the name it is published under."""


def conclude(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> dict[str, Any]:
    """Tell how a result ended, in the fields of report.schema.json."""
    result = plan.results[index]
    told = open_result(plan, progress, index, states)
    told["steps"] = [step | {"state": _final(step["state"])} for step in told["steps"]]
    told |= _reproduction(plan, result, progress[index].branch, states)
    if result.failure is not None:
        return told | _failed(result.failure)
    failure = branch_failure(plan, progress, index, progress[index].branch, states)
    if failure is not None:
        shown, branch = _best_known(plan, progress, index, states) or (failure, result.branches[progress[index].branch])
        numerics = _numerics(result, branch, states)
        return told | _failed(shown) | _blamed(shown, numerics) | {"numerics": numerics}
    branch = result.branches[progress[index].branch]
    stands = standing(plan, progress, index, states)
    if stands.fate is Fate.DROPPED:
        given_up = {"state": "cancelled", "artifact": _artifact(result, branch, states), DROPPED: stands.reason}
        return told | known_of(result, branch, states) | given_up
    return told | _succeeded(plan, result, branch, progress, states)


def open_result(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> dict[str, Any]:
    """Tell what is known of a result that has not ended: its name, its state and its steps."""
    result = plan.results[index]
    branches = result.branches[: progress[index].branch + 1] if result.branches else ()
    shrinking = reproduction_of(result, progress[index].branch, states) if result.branches else None
    keys = dict.fromkeys((*(key for branch in branches for key in branch.steps), shrinking))
    steps = [states[key] for key in (result.inspect, *keys) if key and key in states]
    failures = [branch_failure(plan, progress, index, number, states) for number in range(len(branches))]
    moving = any(s.phase in (StepPhase.RUNNING, StepPhase.SUCCEEDED) for s in steps if s.key != result.inspect)
    return {
        "model": result.model,
        "target": result.target,
        "target_runtime": result.target_runtime,
        "recipe": result.recipe,
        "state": "running" if moving else "waiting",
        "verdict": None,
        "routes": [list(branch.route) for branch in branches],
        "route_failures": [failure.message if failure else None for failure in failures],
        "refused_routes": list(result.refused_routes),
        "steps": [step_entry(state, plan.steps.get(state.key), states) for state in steps],
        "tool_versions": _tool_versions(steps),
        "notes": _notes(result, progress[index].branch),
        **({"compiled_with": list(branches[-1].beside)} if any(branch.beside for branch in branches) else {}),
        **_declared(result.preprocessing),
    }


def _declared(preprocessing: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tell what an application must do too: prepare pictures alike, and name the classes alike."""
    if preprocessing is None:
        return {}
    return {"preprocessing": dict(preprocessing), "labels": list(preprocessing.get("classes") or ())}


def _reproduction(plan: Plan, result: PlannedResult, last: int, states: States) -> dict[str, Any]:
    """Tell of the small reproduction of a failure: its file, or why there is none. Empty when none was tried."""
    key = reproduction_of(result, last, states) if result.branches else None
    if key is None or key not in states:
        return {}
    state, options = states[key], plan.steps[key].options
    told: dict[str, Any] = {"file": None, "stage": options.get("stage"), **_shrunk(state.facts)}
    if (otherwise := _another_failure(result, last, key, states)) is not None:
        return {"reproduction": {"file": None, "stage": options.get("stage"), "reason": otherwise}}
    if state.phase is StepPhase.SUCCEEDED and REPRO in state.outputs:
        (file,) = state.outputs[REPRO].files
        return {"reproduction": told | {"file": REPRO_FILE, "sha256": file.sha256, "size_bytes": file.size_bytes}}
    why = state.failure.message if state.failure else "The search for it was cut short."
    return {"reproduction": told | {"reason": state.facts.get("reason") or why}}


def _another_failure(result: PlannedResult, last: int, key: str, states: States) -> str | None:
    """Say that the repeated stage failed otherwise than the step did: it has less time, and what shows that is false.

    Only here are both known: a step is planned before it is known how its predecessor fails.
    """
    facts = states[key].facts
    failed = (
        step for branch in result.branches[: last + 1] for step, own in branch.reproductions.items() if own == key
    )
    failure = next((states[step].failure for step in failed if step in states), None)
    if failure is None or facts.get("code") in (None, failure.code):
        return None
    if facts["code"] == ToolTimedOut.code:
        return (
            f"The stage failed with {failure.code}, but repeated for the search it did not come that far within "
            f"{facts.get('limit_s')} s: a failure that takes longer is not shrunk."
        )
    return f"The stage failed with {failure.code}, but repeated for the search with {facts['code']}."


def _shrunk(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts.get(name) for name in ("nodes", "original_nodes", "signature", "attempts")}


def _succeeded(
    plan: Plan, result: PlannedResult, branch: Branch, progress: Sequence[Progress], states: States
) -> dict[str, Any]:
    compared = states[branch.compare].facts
    measured = states[branch.measure]
    accuracy = states[branch.evaluate].facts["accuracy"] if branch.evaluate else None
    conditions = measured.facts["conditions"]
    pace = _pace(plan, result, measured, progress, states)
    holding = judge(
        result.recipe,
        numerics=compared["numerics"],
        accuracy=accuracy,
        conditions=conditions,
        is_slower=pace.is_slower,
    )
    return {
        "state": "succeeded",
        "verdict": holding[0].value,
        "verdicts": [verdict.value for verdict in holding],
        "artifact": _artifact(result, branch, states),
        **_dtypes(result.recipe),
        "numerics": _numerics(result, branch, states),
        **_told_of_stages(plan, branch, states),
        "accuracy": accuracy,
        "execution_summary": dict(measured.facts["execution_summary"])
        | {
            "versus_float": pace.ratio,
            "reused": measured.reused,
            "age_s": measured.age_s if measured.reused else None,
        },
        "execution_detail": measured.facts.get("execution_detail"),
        "execution_detail_note": measured.facts.get("execution_detail_note"),
        "conditions": conditions,
        "notes": [*_notes(result, result.branches.index(branch)), *([pace.note] if pace.note else [])],
    }


def _artifact(result: PlannedResult, branch: Branch, states: States) -> dict[str, Any]:
    """Tell the files of a branch that was compared, and how to call them."""
    artifact, contract = artifact_of(result, branch, states), dict(states[branch.compare].facts["artifact"])
    return {
        "files": [{"name": f.name, "sha256": f.sha256, "size_bytes": f.size_bytes} for f in artifact.files],
        "format": branch.format.value if branch.format else "",
        "size_bytes": artifact.size_bytes,
        "inputs": contract.get("inputs", []),
        "outputs": contract.get("outputs", []),
        "contract_changes": list(dict.fromkeys((*result.changes, *contract.get("contract_changes", ())))),
    }


def _numerics(result: PlannedResult, branch: Branch, states: States) -> dict[str, Any] | None:
    """Tell the file's numerics on the target and those of every stage; None when nothing was compared."""
    figures = [_checked(check, states) for check in branch.checks]
    compared = states.get(branch.compare)
    told: dict[str, Any] = {"sqnr_db": None, "cosine": None, "max_abs_error": None}
    if compared is not None and compared.phase is StepPhase.SUCCEEDED:
        told = dict(compared.facts["numerics"])
        figures.append(_on_target(result, branch, compared))
    if not any(figure.numerics for figure in figures):
        return None
    return told | bisect(figures, result.target, _layers(branch, states)) | {"compared_on": branch.compared_on}


def _notes(result: PlannedResult, at: int) -> list[str]:
    return [*result.notes, *_of_recipe(result.recipe), *of_together(result, at)]


def _of_recipe(name: str) -> tuple[str, ...]:
    """Say what a reader of a recipe's results must know, where they are often misread."""
    recipe = RECIPES.get(name)
    return (recipe.note,) if recipe and recipe.note else ()


def _dtypes(name: str) -> dict[str, str]:
    """Say in which types the recipe's operators hold weights and activations."""
    recipe = RECIPES.get(name)
    return {} if recipe is None else {key: getattr(recipe, key) for key in ("weights_dtype", "activations_dtype")}


def _told_of_stages(plan: Plan, branch: Branch, states: States) -> dict[str, Any]:
    """Tell what stages found of the model's own file: ranked operators, those left in float, an Edge TPU's mapping.

    Of a file that was compiled together with others it counts what the step that compiled them told of it, and what was
    found in the file itself.
    """
    others = {key for keys in branch.beside.values() for key in keys}
    facts = {key: states[key].facts for key in branch.steps if key in states and key not in others}
    found = {name: told[name] for told in facts.values() for name in STAGE_FACTS if told and name in told}
    compiled = {name: told for name, told in told_of_each(plan, branch, facts).items() if name in STAGE_FACTS}
    return found | {name: {**told, **found.get(name, {})} for name, told in compiled.items()}


def _layers(branch: Branch, states: States) -> LayerFigures | None:
    """Tell what the layers of a quantized model reach; None where nothing was quantized."""
    layers = branch.layers
    if layers is None:
        return None
    state = states.get(layers.step or "")
    if state is not None and state.phase is StepPhase.SUCCEEDED:
        return LayerFigures(layers.stage, state.facts["layers"], state.facts["note"])
    failed = state.failure.message if state is not None and state.failure is not None else "its step did not run."
    return LayerFigures(layers.stage, note=layers.not_compared or failed)


def _checked(check: Check, states: States) -> Figure:
    limit_db, state = RECIPES[check.recipe].degraded_below_db, states.get(check.step or "")
    fmt = check.format.value if check.format else None
    host, why = state.host if state else None, check.not_checked
    figure = Figure(check.stage, fmt, check.runtime, "build", host, limit_db, not_checked=why)
    if state is not None and state.phase is StepPhase.SUCCEEDED:
        return replace(figure, numerics=state.facts.get("numerics", {}))
    if state is not None and state.failure is not None:
        return replace(figure, not_checked=f"not compared: {state.failure.message}")
    return figure if why else replace(figure, not_checked="not checked: its step did not run.")


def _on_target(result: PlannedResult, branch: Branch, compared: StepState) -> Figure:
    return Figure(
        branch.checks[-1].stage if branch.checks else SOURCE,
        branch.format.value if branch.format else None,
        result.target_runtime,
        "target",
        compared.host,
        RECIPES[result.recipe].degraded_below_db,
        compared.facts["numerics"],
        in_integers=RECIPES[result.recipe].in_integers,
    )


def _pace(plan: Plan, result: PlannedResult, measured: StepState, progress: Sequence[Progress], states: States) -> Pace:
    """Hold a result's times against those of its float32; nothing is said unless both were validly measured."""
    if result.recipe == BASELINE:
        return Pace(1.0 if measured.facts["conditions"]["valid"] else None)
    if result.baseline is None:
        return Pace()
    baseline = plan.results[result.baseline]
    if not baseline.branches:
        return Pace()
    other = states.get(baseline.branches[progress[result.baseline].branch].measure)
    if other is None or other.phase is not StepPhase.SUCCEEDED:
        return Pace()
    return beside_float(measured.facts, other.facts)


def _failed(failure: Failure) -> dict[str, Any]:
    return {
        "state": "failed",
        "verdict": Verdict.FAILED.value,
        "verdicts": [Verdict.FAILED.value],
        "failure_type": failure.code,
        "who_must_act": failure.who_must_act.value,
        "retryable": failure.retryable,
        "message": failure.message,
        "remedy": failure.remedy,
        "evidence": dict(failure.evidence),
    }


def _blamed(failure: Failure, numerics: Mapping[str, Any] | None) -> dict[str, Any]:
    """Have the operator act, and no toolchain, where the file is sound and the target's host computes it otherwise."""
    if failure.code != NumericsBroken.code or not (numerics or {}).get("disagreement"):
        return {}
    return {"who_must_act": Actor.OPERATOR.value, "remedy": OTHER_HOST}


def _best_known(plan: Plan, progress: Sequence[Progress], index: int, states: States) -> tuple[Failure, Branch] | None:
    """Choose the failure to show: that of the best route of the model by itself; the steps list shows the others."""
    tried = enumerate(plan.results[index].branches[: progress[index].branch + 1])
    for number, branch in sorted(tried, key=lambda one: bool(one[1].beside)):
        failure = branch_failure(plan, progress, index, number, states)
        if failure is not None:
            return failure, branch
    return None


def _final(phase: str) -> str:
    """Call a step skipped that had not begun when its result ended, and cancelled one that ran."""
    if phase == StepPhase.RUNNING:
        return StepPhase.CANCELLED.value
    return phase if phase in ENDED else StepPhase.SKIPPED.value


def _tool_versions(steps: Sequence[StepState]) -> list[dict[str, str]]:
    found = {name: version for state in steps for name, version in state.tool_versions.items()}
    return [{"name": name, "version": version} for name, version in sorted(found.items())]
