"""The story of each failed or poor result: what happened, where, what it means, what to do next and by whom."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from farm import knowledge
from farm.domain.bisection import OTHER_HOST, OTHER_KERNELS
from farm.domain.errors import ContractMismatch, NumericsBroken
from farm.domain.recipe import BASELINE, RECIPES
from farm.knowledge import Diagnosis, telling_lines
from farm.report import text
from farm.report.model import Layer, Numerics, Report, Result, StepReport
from farm.report.row import WHY_INVALID, order

POOR = ("failed", "invalid-measurement", "degraded", "slower-than-float")
SHORT, LONG = 220, 500
OWN = (NumericsBroken.code, ContractMismatch.code)
"""Failures in our own words, of which no tool's message has to be looked up."""
CLIPPED = 0.01
"""Share of a layer's values from which on it is told that they are cut off."""
UNKNOWN = "No entry of the knowledge base knows this message"
_BY_ACTOR = {
    "submitter": "Change the request or the model as the message says, and submit again.",
    "toolchain": "Read the step's log, and ask for another runtime.",
    "host": "Run the job again once the host is well.",
    "operator": "Ask the farm's operator to look at the hosts and environments.",
    "us": "Please report it with the step's log.",
}
_WAY_OUT = {
    "emulated": "Add a real host of this profile: `farm worker --profile auto` on the board.",
    "throttled": "Cool the host, or let its clock down, and measure again.",
    "hot": "Let the host cool down, or give it a fan, and measure again.",
    "loaded": "Stop other work on the host and measure again.",
    "steal": "Measure on a host that shares its processor with nobody.",
    "clock-low": "Set the governor to performance and measure again.",
    "governor": "Let the worker set the governor (it needs root), or set it by hand, and measure again.",
    "memory-pressure": "Free memory on the host and measure again.",
    "unstable": "Keep the host idle and measure again; times under a tenth of a millisecond vary the most.",
    "reference-drift": "Keep the host idle and cool, and measure again: its reference model changed pace meanwhile.",
    "unknown-state": "Give the worker read access to the host's clock and thermal state, and measure again.",
}


@dataclass(frozen=True, slots=True)
class Story:
    """What to know about one result; texts are full sentences, safe to show.

    Attributes:
        result: model/target/runtime/recipe; the job's id for a refused job.
        stage: the stage that failed, or the first one whose numerics fell.
        told: what happened, what else was tried, and what it means.
        action: what to do next.
        command: a command line for it.
        entry: the knowledge base's entry; None when the message is unknown or there is none.
        telling: the telling lines of an unknown message.
    """

    result: str
    verdict: str
    told: tuple[str, ...]
    action: str
    command: str
    who_must_act: str | None = None
    stage: str | None = None
    operator: str | None = None
    tensor: str | None = None
    entry: str | None = None
    source: str | None = None
    telling: tuple[str, ...] = ()


def explain(report: Report) -> list[Story]:
    """Tell the story of every result that failed or is poor, and of a refused job."""
    refused = [_refused(report)] if report.reasons and not report.results else []
    return refused + [_story(report, result) for result in order(report) if _is_poor(result)]


def _is_poor(result: Result) -> bool:
    return result.state == "failed" or result.verdict in POOR


def _story(report: Report, result: Result) -> Story:
    if result.state == "failed" or result.verdict == "failed":
        return _failed(report, result)
    return _poor(report, result)


def _refused(report: Report) -> Story:
    first = report.reasons[0]
    told = [f"Job {report.job} was refused before any work."] + [reason.message for reason in report.reasons]
    return Story(
        result=text.plain(report.job),
        verdict="refused",
        told=_plain(told),
        action=text.plain(first.remedy or _BY_ACTOR.get(first.who_must_act, _BY_ACTOR["submitter"])),
        command="farm targets",
        who_must_act=text.plain(first.who_must_act),
    )


def _failed(report: Report, result: Result) -> Story:
    step, evidence = _failed_step(result), _extra(result, "evidence", {})
    found = _diagnosis(result, evidence)
    operator = _named(evidence, "operator") or _shown(found.operator if found else None)
    tensor = _named(evidence, "tensor") or _shown(found.tensor if found else None)
    said = f"{evidence.get('log_tail') or ''}\n{result.message or ''}"
    is_ours = result.failure_type in OWN
    lines = [] if found or is_ours or evidence.get("cause") else telling_lines(said)
    actor = result.who_must_act.value if result.who_must_act else "us"
    told = [_what_failed(result, step, evidence), _on(operator, tensor), *_tried(result, step)]
    told += ["" if is_ours and found is None else _meaning(found, evidence, lines)]
    told += [*_reproduced(result), *_fallen(result)]
    disagreement = result.numerics.disagreement if result.numerics else None
    return Story(
        result=text.plain(result.folder),
        verdict="failed",
        told=_plain([*told, disagreement or ""]),
        action=text.plain(result.remedy or (found.remedy if found else None) or _BY_ACTOR[actor]),
        command=text.plain(_command(report, actor, step)),
        who_must_act=actor,
        stage=text.plain(step.stage) if step else None,
        operator=operator,
        tensor=tensor,
        entry=found.entry if found else None,
        source=found.source if found else None,
        telling=_plain(lines),
    )


def _poor(report: Report, result: Result) -> Story:
    """Tell every verdict, what is wrong with the file first: there is no use in measuring a bad one again."""
    holding = [verdict for verdict in POOR if verdict in (result.verdict, *result.verdicts)]
    verdicts = sorted(holding, key=lambda verdict: verdict != "degraded")
    first, figures = verdicts[0], result.numerics
    told = [sentence for verdict in verdicts for sentence in _TELLERS[verdict](report, result)]
    return Story(
        result=text.plain(result.folder),
        verdict=str(result.verdict),
        told=_plain([*told, *result.notes]),
        action=text.plain(_ACTIONS[first](report, result)),
        command=text.plain(_command_for(first, report, result)),
        who_must_act="operator" if first == "invalid-measurement" else "submitter",
        stage=_shown(figures.first_bad_stage) if figures else None,
        tensor=_shown(figures.first_bad_tensor) if figures else None,
    )


def _failed_step(result: Result) -> StepReport | None:
    """Find the step whose failure the result shows, else the first that failed; a lost comparison is no step's."""
    failed = [step for step in result.steps if step.state == "failed"]
    same = [step for step in failed if result.message and step.message == result.message]
    others = [] if result.failure_type == NumericsBroken.code else failed
    return next(iter(same or others), None)


def _what_failed(result: Result, step: StepReport | None, evidence: dict[str, Any]) -> str:
    where = f"Stage {step.stage} failed" if step else "It failed before any stage ran"
    if step is None and isinstance(evidence.get("stage"), str):
        where = f"It fell at {evidence['stage']}"
    host = f" on host {step.host}" if step and step.host else ""
    why = _short(result.message or "no message.", LONG)
    return f"{where}{host} ({result.failure_type or 'unknown failure'}): {why}"


def _on(operator: str | None, tensor: str | None) -> str:
    named = [f"operator {operator}" if operator else "", f"tensor {tensor}" if tensor else ""]
    return f"The message names {' and '.join(filter(None, named))}." if any(named) else ""


def _tried(result: Result, told: StepReport | None) -> Iterator[str]:
    """Tell every route in order, with its reason unless it was told; then those that were refused before."""
    failures = _extra(result, "route_failures", [])
    routes = [(n, route) for n, route in enumerate(_extra(result, "routes", [])) if isinstance(route, list)]
    for number, (place, route) in enumerate(routes, 1):
        message = failures[place] if place < len(failures) else None
        why = _why_lost(result, route, told, message if isinstance(message, str) else None)
        if len(routes) > 1:
            yield f"Route {number}, {' → '.join(map(str, route)) or 'the model as it is'}: {why}"
    for refused in _extra(result, "refused_routes", []):
        yield f"Not tried: {_short(str(refused))}"


def _why_lost(result: Result, route: list[Any], told: StepReport | None, message: str | None) -> str:
    """Say why a route was lost: by its own failure, or in reports without one by the first step of it that failed."""
    failed = [step for step in result.steps if step.state == "failed" and step.stage in route]
    bad = next((step for step in failed if message in (None, step.message)), None)
    is_told = message == result.message if message else bad is not None and bad is told
    if is_told:
        return "failed as told above."
    if bad is not None:
        return f"failed at {bad.stage}: {_short(bad.message or 'see its log')}"
    return f"failed: {_short(message)}" if message else "ended later."


def _reproduced(result: Result) -> Iterator[str]:
    """Tell of the small model that fails alike, or why there is none."""
    found = result.reproduction
    if found is not None and found.file:
        size = f"{found.nodes} of the model's {found.original_nodes} nodes" if found.nodes else "a part of the model"
        yield (
            f"A small reproduction is among the result's files: {found.file} holds {size} with random weights, "
            f"fails alike in {found.stage}, and can be passed on to the tool's makers."
        )
    elif found is not None and found.reason:
        yield f"There is no small reproduction of the failure in {found.stage}: {_short(found.reason)}"


def _fallen(result: Result) -> Iterator[str]:
    """Tell where the numerics fell, where that is why it failed."""
    numerics = result.numerics
    if numerics is not None and numerics.first_bad_stage and result.failure_type == NumericsBroken.code:
        yield _first_bad(numerics.first_bad_stage, numerics)
        yield from _layers(numerics)


def _diagnosis(result: Result, evidence: dict[str, Any]) -> Diagnosis | None:
    """Ask about the message and the log's end, the tool's own entries first."""
    said = "\n".join(str(part) for part in (result.message, evidence.get("log_tail")) if part)
    tool = evidence.get("tool")
    if isinstance(tool, str) and (found := knowledge.diagnose(said, tool)):
        return found
    return knowledge.diagnose(said) if said else None


def _meaning(found: Diagnosis | None, evidence: dict[str, Any], lines: list[str]) -> str:
    if found is not None:
        return f"What it means: {found.cause}"
    if isinstance(evidence.get("cause"), str):
        return f"What it means: {evidence['cause']}"
    return f"{UNKNOWN}; its telling lines are below." if lines else f"{UNKNOWN}."


def _command(report: Report, actor: str, step: StepReport | None) -> str:
    job = shlex.quote(report.job)
    if actor == "host":
        return f"farm retry {job} --wait"
    if actor == "operator":
        return "farm hosts"
    return f"farm logs {job} --step {shlex.quote(step.stage)}" if step else f"farm report {job}"


def _invalid(report: Report, result: Result) -> Iterator[str]:
    conditions = result.conditions
    reasons = [WHY_INVALID[reason] for reason in conditions.reasons] if conditions else []
    host = f" on host {conditions.host}" if conditions else ""
    yield f"The file is good, but its times{host} do not count: {', '.join(reasons) or 'no reason was recorded'}."


def _degraded(report: Report, result: Result) -> Iterator[str]:
    numerics, accuracy = result.numerics, result.accuracy
    limit_db = RECIPES[_recipe(result)].degraded_below_db if _recipe(result) in RECIPES else None
    if numerics is not None and numerics.sqnr_db is None:
        yield "Its outputs could not be compared with the source's."
    elif numerics is not None and limit_db is not None and (numerics.sqnr_db or 0.0) < limit_db:
        yield f"Its outputs reach {text.decibels(numerics.sqnr_db)} against the source; {limit_db:.0f} dB are needed."
    if numerics is not None and numerics.first_bad_stage:
        yield _first_bad(numerics.first_bad_stage, numerics)
        yield from _layers(numerics)
    if numerics is not None and numerics.disagreement:
        yield numerics.disagreement
    if accuracy is not None and accuracy.value != accuracy.float_value:
        now, was = text.score(accuracy.value), text.score(accuracy.float_value)
        yield f"Its {accuracy.metric} is {now} where the float source has {was}, over {accuracy.samples} samples."


def _first_bad(stage: str, numerics: Numerics) -> str:
    by_stage = numerics.by_stage
    bad = next((one for one in by_stage if one.is_bad), None)
    earlier = by_stage[: by_stage.index(bad)] if bad else []
    before = [one for one in earlier if one.sqnr_db is not None]
    unseen = earlier[-1].stage if earlier and earlier[-1].not_checked else stage
    gap = f" ({unseen} before it was not compared)" if unseen != stage else ""
    was = f", after {_reached(before[-1].sqnr_db)} at {before[-1].stage}" if before else ""
    named = ""
    if numerics.first_bad_tensor:
        named = f" {'in layer' if numerics.bad_layer else 'in output'} {numerics.first_bad_tensor}"
    return f"The first stage that falls is {stage}{named}{f': {text.decibels(bad.sqnr_db)}' if bad else ''}{was}{gap}."


def _reached(sqnr_db: float | None) -> str:
    shown = text.decibels(sqnr_db)
    return "exact outputs" if shown == "exact" else shown


def _layers(numerics: Numerics) -> Iterator[str]:
    """Name the layers that lose the most, or say why none is named."""
    worst = [f"{one.tensor} ({one.operator}) {text.decibels(one.sqnr_db)}" for one in numerics.worst_layers]
    if worst:
        yield f"The layers furthest from the float model's, on one sample: {', '.join(worst)}."
    bad = numerics.bad_layer
    if bad is not None and _is_cut_off(bad):
        yield (
            f"{bad.clipped_share:.0%} of the values of {bad.tensor} are cut off: they lie beyond the range that the "
            "quantized file has for them, as after calibration on samples smaller than those in use."
        )
    if numerics.per_layer_note:
        yield f"{'Of its layers' if worst else 'Its layers are not compared'}: {numerics.per_layer_note}"


def _is_cut_off(layer: Layer | None) -> bool:
    return layer is not None and layer.clipped_share >= CLIPPED


def _slower(report: Report, result: Result) -> Iterator[str]:
    summary, conditions = result.execution_summary, result.conditions
    if summary is not None and summary.versus_float:
        yield (
            f"It takes {1 / summary.versus_float:.2f}x the time of {BASELINE} under {result.target_runtime} on the "
            f"same host (median {text.milliseconds(summary.p50)} ms)."
        )
    cpu = f" ({conditions.cpu})" if conditions and conditions.cpu else ""
    yield f"Integer kernels pay only where processor{cpu} and runtime have fast ones for the model's operators."
    if (best := _fastest(report, result)) is not None:
        yield f"In this job {best.target_runtime} {best.recipe} is the fastest valid one for this model and target."


def _act_on_measurement(report: Report, result: Result) -> str:
    reasons = result.conditions.reasons if result.conditions else []
    return _WAY_OUT[reasons[0]] if reasons else "Measure again, and see what the host's conditions were."


def _act_on_numerics(report: Report, result: Result) -> str:
    if result.numerics is not None and result.numerics.disagreement:
        return OTHER_KERNELS if _recipe(result) in RECIPES and RECIPES[_recipe(result)].in_integers else OTHER_HOST
    if _recipe(result) == BASELINE:
        return f"Take another route or runtime: see what leads from the model's format to {result.target_runtime}."
    if result.numerics is not None and _is_cut_off(result.numerics.bad_layer):
        return (
            "Calibrate with samples that span the range in use, as large and as dark as those that the model will see."
        )
    return "Give more and more typical calibration samples, or let the farm search for a recipe that keeps the quality."


def _act_on_speed(report: Report, result: Result) -> str:
    best = _fastest(report, result)
    other = f"{best.target_runtime} {best.recipe}" if best else f"the {BASELINE} file"
    return f"Use {other} for speed; keep this one only where its size of {_size(result)} matters."


def _command_for(verdict: str, report: Report, result: Result) -> str:
    job, target = shlex.quote(report.job), shlex.quote(result.target)
    if verdict == "invalid-measurement":
        return f"farm retry {job} --wait"
    if verdict == "degraded" and _recipe(result) == BASELINE:
        return f"farm routes --to {shlex.quote(result.target_runtime)}"
    if verdict == "degraded":
        return f"farm submit MODEL --target {target} --recipe auto --calibration SAMPLES.npz"
    return f"farm download {job}"


def _fastest(report: Report, result: Result) -> Result | None:
    """Find the fastest valid result for the same model and target that no verdict speaks against."""
    same = [r for r in report.results if (r.model, r.target) == (result.model, result.target) and r.verdict == "ok"]
    timed = [(r.execution_summary.p50, n) for n, r in enumerate(same) if r.execution_summary and r.is_valid]
    return same[min(timed)[1]] if timed else None


def _recipe(result: Result) -> str:
    return result.recipe.partition("+")[0]


def _size(result: Result) -> str:
    return text.size(result.artifact.size_bytes) if result.artifact else text.UNKNOWN


def _extra(part: Result, name: str, default: Any) -> Any:
    """Read a field that the farm adds to the schema's; `default` when it is not there, or of another kind."""
    value = (part.model_extra or {}).get(name, default)
    return value if default is None or isinstance(value, type(default)) else default


def _named(evidence: dict[str, Any], name: str) -> str | None:
    value = evidence.get(name)
    return _shown(value) if isinstance(value, str) else None


def _shown(name: str | None) -> str | None:
    return text.plain(name) if name else None


def _short(message: str, limit: int = SHORT) -> str:
    first = " ".join(message.split())
    return first if len(first) <= limit else f"{first[: limit - 1]}…"


def _plain(sentences: list[str]) -> tuple[str, ...]:
    return tuple(text.plain(sentence) for sentence in sentences if sentence)


_TELLERS = {"invalid-measurement": _invalid, "degraded": _degraded, "slower-than-float": _slower}
_ACTIONS = {
    "invalid-measurement": _act_on_measurement,
    "degraded": _act_on_numerics,
    "slower-than-float": _act_on_speed,
}
