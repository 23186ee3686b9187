"""Rank operators by what each of them costs when it alone is quantized."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.errors import ToolchainError
from workers.stages.quantize.selection import Judge

SAMPLES = 2
"""Samples that a ranking is made on at most: each of them is run for every operator."""
BUDGET_S = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operator costs: the SQNR (dB) of the worst output with this operator alone in integers."""

    operator: str
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Operators with the dearest first; `unmeasured` are those for which the time was too short, or the tool failed."""

    costs: tuple[Cost, ...]
    unmeasured: tuple[str, ...] = ()

    def worst(self, count: int) -> tuple[str, ...]:
        return tuple(cost.operator for cost in self.costs[:count])

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "sensitivity": [{"operator": cost.operator, "sqnr_db": round(cost.sqnr_db, 2)} for cost in self.costs],
            "sensitivity_unmeasured": list(self.unmeasured),
        }


def rank(
    judge: Judge, operators: Sequence[str], quantize_only: Callable[[Path, str], None], *, budget_s: float = BUDGET_S
) -> Ranking:
    """Quantize one operator at a time and measure the model.

    Operators at the ends of the model go first, where errors are often dearest and a short budget serves best.

    Args:
        judge: holds the few samples to measure on.
        operators: their names, first to last.
        quantize_only: writes a file in which one operator is quantized.
        budget_s: seconds after which no further operator is begun.
    """
    costs, unmeasured = [], []
    end = time.monotonic() + budget_s
    for operator in _ends_first(operators):
        if time.monotonic() > end:
            unmeasured.append(operator)
            continue
        path = judge.new_path()
        try:
            quantize_only(path, operator)
            costs.append(Cost(operator, judge.judge(path)[1]))
        except ToolchainError:
            unmeasured.append(operator)
        _remove(path)
    place = {name: at for at, name in enumerate(operators)}
    ranked = sorted(costs, key=lambda cost: (cost.sqnr_db, place[cost.operator]))
    return Ranking(tuple(ranked), tuple(sorted(unmeasured, key=place.__getitem__)))


def _ends_first(operators: Sequence[str]) -> list[str]:
    half = (len(operators) + 1) // 2
    pairs = zip(operators[:half], reversed(operators), strict=False)
    return list(dict.fromkeys(name for pair in pairs for name in pair))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
