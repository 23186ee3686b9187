"""Figures, their aims, and how they are shown and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.table import Table

Unit = Literal["ms", "s", "ratio", "cells"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value beside its limit.

    Attributes:
        limit: the bare thing measured in the same run, in the same unit; None where the aim is all there is.
        beside: what `limit` is, and further values in the same unit that help to judge.
        at_least: the aim is a lower bound; else an upper one.
    """

    name: str
    value: float
    unit: Unit
    aim: float
    limit: float | None = None
    limit_is: str = ""
    beside: Mapping[str, float] = field(default_factory=dict)
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.aim if self.at_least else self.value <= self.aim


def as_json(figures: Sequence[Figure]) -> str:
    """Give the document: {figures: {NAME: {value, unit, limit, aim, reached, …}}}."""
    told = {}
    for figure in figures:
        entry = asdict(figure) | {"beside": dict(figure.beside), "reached": figure.reached}
        told[entry.pop("name")] = entry
    return json.dumps({"figures": told}, indent=1)


def write(figures: Sequence[Figure], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(figures) + "\n")


def as_table(figures: Sequence[Figure]) -> Table:
    table = Table("figure", "value", "aim", "reached", "limit in the same run", "beside")
    for figure in figures:
        beside = ", ".join(f"{name} {value:.3g}" for name, value in figure.beside.items())
        limit = "–" if figure.limit is None else f"{figure.limit:.3g} {figure.limit_is}"
        aim = f"{'≥' if figure.at_least else '≤'} {figure.aim:g}"
        value = f"{figure.value:.3g} {figure.unit}"
        table.add_row(figure.name, value, aim, "yes" if figure.reached else "NO", limit, beside)
    return table
