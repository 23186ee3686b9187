"""One result as the cells that every table shows: the terminal's, the page's and the web's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from farm.report import text
from farm.report.model import Numerics, Report, Result

WHY_INVALID = {
    "emulated": "the host is emulated",
    "throttled": "the CPU was throttled",
    "hot": "the host was too hot",
    "loaded": "other work loaded the host",
    "steal": "the hypervisor took CPU time away",
    "clock-low": "the clock was below its nominal rate",
    "governor": "the frequency governor was not the one asked for",
    "memory-pressure": "memory was short",
    "unstable": "the samples never became stable",
    "reference-drift": "the reference model drifted meanwhile",
    "unknown-state": "the host's state could not be read",
}


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of one result. Times that don't count are in `times` with `counts` False: mark them wherever shown."""

    model: str
    target: str
    runtime: str
    recipe: str
    size: str
    times: str
    versus_float: str
    sqnr_db: str
    accuracy: str
    verdict: str
    counts: bool
    emulated: bool
    note: str | None


def rows(report: Report) -> list[Row]:
    return [row(result) for result in report.results]


def row(result: Result) -> Row:
    summary, numerics = result.execution_summary, result.numerics
    return Row(
        model=text.plain(result.model),
        target=text.plain(result.target),
        runtime=text.plain(result.target_runtime),
        recipe=text.plain(result.recipe),
        size=text.size(result.artifact.size_bytes) if result.artifact else text.UNKNOWN,
        times=f"{text.milliseconds(summary.p50)} / {text.milliseconds(summary.p90)}" if summary else text.UNKNOWN,
        versus_float=text.ratio(summary.versus_float) if summary else text.UNKNOWN,
        sqnr_db=text.decibels(numerics.sqnr_db).removesuffix(" dB") if numerics else text.UNKNOWN,
        accuracy=_accuracy(result),
        verdict=_verdict(result),
        counts=summary is None or result.is_valid,
        emulated=result.conditions is not None and result.conditions.emulated is not False,
        note=note(result),
    )


def note(result: Result, *, but: Collection[str] = ()) -> str | None:
    """Say in a few sentences what a reader of the table must know about this result, `but` what is said elsewhere."""
    if result.verdict == "failed" or result.state == "failed":
        return _failure(result)
    notes = []
    if result.execution_summary is not None and not result.is_valid:
        notes.append(f"measurement not valid: {_why(result)}.")
    elif result.execution_summary is not None and result.execution_summary.reused:
        notes.append(_reuse(result.execution_summary.age_s, result))
    notes += [_numerics(result.numerics)] if result.numerics else []
    notes += [text.plain(said) for said in result.notes if said not in but]
    return " ".join(part for part in notes if part) or None


def _numerics(numerics: Numerics) -> str:
    """Say where the numerics fall below their line, or which hosts disagree."""
    if numerics.disagreement:
        return text.plain(numerics.disagreement)
    if numerics.first_bad_stage is None:
        return ""
    bad = next((entry for entry in numerics.by_stage if entry.is_bad), None)
    reached = f": {text.decibels(bad.sqnr_db)}, {bad.limit_db:.0f} dB are needed" if bad and bad.limit_db else ""
    place = "layer" if numerics.bad_layer else "output"
    tensor = f" in {place} {numerics.first_bad_tensor!r}" if numerics.first_bad_tensor else ""
    return text.plain(f"numerics first fall at {numerics.first_bad_stage}{tensor}{reached}.")


def order(report: Report) -> list[Result]:
    return sorted(report.results, key=lambda r: (r.model, r.target, r.target_runtime, r.recipe))


def summary(report: Report) -> str:
    """Count the verdicts in one sentence."""
    verdicts: Sequence[str] = [r.verdict or r.state for r in report.results]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    noun = "result" if len(verdicts) == 1 else "results"
    return f"{len(verdicts)} {noun}: {counted}" if verdicts else "no results"


def _verdict(result: Result) -> str:
    others = [verdict for verdict in result.verdicts if verdict not in (result.verdict, "ok")]
    return ", ".join([result.verdict or result.state, *others])


def _accuracy(result: Result) -> str:
    if result.accuracy is None:
        return text.UNKNOWN
    return f"{text.score(result.accuracy.value)} ({text.score(result.accuracy.float_value)})"


def _failure(result: Result) -> str:
    message = " ".join((result.message or "no message").split())
    parts = [f"{result.failure_type or 'failed'}: {message}", result.remedy or ""]
    who = f"({result.who_must_act} must act)" if result.who_must_act else ""
    disagreement = result.numerics.disagreement if result.numerics else None
    return text.plain(" ".join(part for part in (*parts, disagreement, who) if part))


def _why(result: Result) -> str:
    if result.conditions is None:
        return "its conditions are unknown"
    reasons = [f"{reason} ({WHY_INVALID[reason]})" for reason in result.conditions.reasons]
    return ", ".join(reasons) or "no reason was recorded"


def _reuse(age_s: float | None, result: Result) -> str:
    age = "of unknown age" if age_s is None else f"{text.seconds(age_s)} old"
    host = f", from host {text.plain(result.conditions.host)}" if result.conditions else ""
    return f"measurement reused: {age}{host}."
