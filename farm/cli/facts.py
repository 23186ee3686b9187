"""A model's facts for the terminal."""

from __future__ import annotations

from typing import Any

from farm.cli.output import stdout
from farm.domain.codec import decode
from farm.domain.facts import ModelFacts
from farm.report.text import plain, size
from farm.wire.jobs import ModelView, TargetView

SHOWN_OPERATORS = 12


def print_facts(view: ModelView, target: TargetView | None) -> None:
    from rich.table import Table
    from rich.text import Text

    facts = decode(ModelFacts, view.facts)
    table = Table.grid(padding=(0, 2))
    for name, value in (*_lines(facts), *_target_lines(target)):
        table.add_row(Text(name, style="bold"), Text(plain(value, keep="\n")))
    stdout().print(table)


def _lines(facts: ModelFacts) -> list[tuple[str, str]]:
    known: list[tuple[str, Any]] = [
        ("format", facts.format.value),
        ("inputs", "\n".join(map(str, facts.inputs))),
        ("outputs", "\n".join(map(str, facts.outputs))),
        ("parameters", None if facts.parameters is None else f"{facts.parameters:,}"),
        ("size", None if facts.size_bytes is None else size(facts.size_bytes)),
        ("opset", facts.opset),
        ("producer", facts.producer),
        ("operators", _operators(facts)),
    ]
    return [(name, str(value)) for name, value in known if value not in (None, "")]


def _operators(facts: ModelFacts) -> str:
    ranked = sorted(facts.operators.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count} {name}" for name, count in ranked[:SHOWN_OPERATORS])
    rest = len(ranked) - SHOWN_OPERATORS
    return f"{shown} and {rest} more kinds" if rest > 0 else shown


def _target_lines(target: TargetView | None) -> list[tuple[str, str]]:
    if target is None:
        return []
    hosts = ", ".join(target.live_hosts) or "no live host"
    return [("target", f"{target.name} runs {', '.join(target.runtimes)}; served by {hosts}")]
