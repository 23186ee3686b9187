"""Where the time goes: bars over the steps of a result, and over the operators of an artifact."""

from __future__ import annotations

from dataclasses import dataclass

from farm.report import text
from farm.report.model import Result

SHOWN_OPERATORS = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `start` and `length` are per mille of the whole width."""

    label: str
    value: str
    start: int
    length: int
    kind: str


def step_bars(result: Result) -> list[Bar]:
    """Lay the steps' queue and run times end to end; reused steps took none of this job's time."""
    timed = [step for step in result.steps if not step.reused and step.run_time_s is not None]
    whole_s = sum((step.queue_time_s or 0.0) + (step.run_time_s or 0.0) for step in timed) or 1.0
    bars, start_s = [], 0.0
    for step in timed:
        for kind, spent_s in (("queue", step.queue_time_s or 0.0), ("run", step.run_time_s or 0.0)):
            if spent_s > 0:
                label = f"{step.stage}, waiting" if kind == "queue" else step.stage
                bars.append(_bar(label, spent_s, kind, start=start_s / whole_s, share=spent_s / whole_s))
            start_s += spent_s
    return bars


def operator_bars(result: Result) -> list[Bar]:
    """Rank the operators by their time; what is left over is one last bar."""
    timed = [operator for operator in result.execution_detail or () if operator.execution_time]
    ranked = sorted(timed, key=lambda operator: -(operator.execution_time or 0.0))
    whole_us = sum(operator.execution_time or 0.0 for operator in ranked) or 1.0
    bars = []
    for operator in ranked[:SHOWN_OPERATORS]:
        share = (operator.execution_time or 0.0) / whole_us
        label = f"{operator.name} ({operator.type}, {operator.compute_unit})"
        bars.append(Bar(text.plain(label, limit=60), f"{share:.1%}", 0, round(share * 1000), "run"))
    rest = 1.0 - sum(operator.execution_time or 0.0 for operator in ranked[:SHOWN_OPERATORS]) / whole_us
    if len(ranked) > SHOWN_OPERATORS:
        count = len(ranked) - SHOWN_OPERATORS
        bars.append(Bar(f"{count} others", f"{rest:.1%}", 0, round(rest * 1000), "queue"))
    return bars


def _bar(label: str, spent_s: float, kind: str, *, start: float, share: float) -> Bar:
    return Bar(text.plain(label), text.seconds(spent_s), round(start * 1000), max(round(share * 1000), 2), kind)
