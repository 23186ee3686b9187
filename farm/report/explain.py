"""The story of each failed or poor result: what happened, where, what it means, what to do next and by whom."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from farm import knowledge
from farm.domain.errors import ContractMismatch, NoLiveHost, NumericsBroken, UnknownName
from farm.knowledge import Diagnosis, telling_lines
from farm.report import text
from farm.report.model import Report, Result, StepReport
from farm.report.poor import ACTIONS, TELLERS, command_for, first_bad, layers_of
from farm.report.row import order

POOR = ("failed", "invalid-measurement", "degraded", "slower-than-float")
SHORT, LONG = 220, 500
OWN = (NumericsBroken.code, ContractMismatch.code)
"""Failures in our own words, of which no tool's message has to be looked up."""
_OF_TARGETS = (NoLiveHost.code, UnknownName.code)
"""Refusals for which the list of targets is where to look next."""
UNKNOWN = "No entry of the knowledge base knows this message"
_BY_ACTOR = {
    "submitter": "Change the request or the model as the message says, and submit again.",
    "toolchain": "Read the step's log, and ask for another runtime.",
    "host": "Run the job again once the host is well.",
    "operator": "Ask the farm's operator to look at the hosts and environments.",
    "us": "Please report it with the step's log.",
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
        command="farm targets" if first.code in _OF_TARGETS else "farm submit --help",
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
    told = [sentence for verdict in verdicts for sentence in TELLERS[verdict](report, result)]
    return Story(
        result=text.plain(result.folder),
        verdict=str(result.verdict),
        told=_plain([*told, *result.notes]),
        action=text.plain(ACTIONS[first](report, result)),
        command=text.plain(command_for(first, report, result)),
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
        yield first_bad(numerics.first_bad_stage, numerics)
        yield from layers_of(numerics)


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
