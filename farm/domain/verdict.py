"""The verdict of a result, from what was compared, scored and measured."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from farm.domain.metric import LOWER_IS_BETTER
from farm.domain.recipe import BASELINE, RECIPES

ACCURACY_KEPT = 0.99
"""Share of the float score under which a result is degraded (MLPerf Inference's bar for image classification)."""


class Verdict(StrEnum):
    """In the order of precedence: the first that holds is shown."""

    FAILED = "failed"
    INVALID_MEASUREMENT = "invalid-measurement"
    DEGRADED = "degraded"
    SLOWER_THAN_FLOAT = "slower-than-float"
    OK = "ok"


def judge(
    recipe: str,
    *,
    numerics: Mapping[str, Any],
    accuracy: Mapping[str, Any] | None,
    conditions: Mapping[str, Any],
    is_slower: bool,
) -> list[Verdict]:
    """List every verdict that holds for a result with an artifact, the shown one first.

    Args:
        recipe: what it was made by.
        numerics: how near its outputs are to the source's.
        accuracy: its score beside the source's, where there is one.
        conditions: its measurement's.
        is_slower: it takes longer than float32, told from noise.
    """
    holding = []
    if conditions.get("valid") is not True:
        holding.append(Verdict.INVALID_MEASUREMENT)
    if is_degraded(recipe, numerics, accuracy):
        holding.append(Verdict.DEGRADED)
    if recipe != BASELINE and is_slower:
        holding.append(Verdict.SLOWER_THAN_FLOAT)
    return holding or [Verdict.OK]


def is_degraded(recipe: str, numerics: Mapping[str, Any], accuracy: Mapping[str, Any] | None) -> bool:
    sqnr_db = numerics.get("sqnr_db")
    if not is_empty(numerics) and (sqnr_db is None or sqnr_db < RECIPES[recipe].degraded_below_db):
        return True
    return accuracy is not None and not _is_kept(accuracy)


def numerics_failed(recipe: str, numerics: Mapping[str, Any]) -> bool:
    """Tell whether a float result is not the source's function: under the recipe's floor, or without a number."""
    floor = RECIPES[recipe].failed_below_db
    sqnr_db = numerics.get("sqnr_db")
    return floor is not None and not is_empty(numerics) and (sqnr_db is None or sqnr_db < floor)


def is_empty(numerics: Mapping[str, Any]) -> bool:
    """Tell whether source and artifact both gave outputs of no elements: alike, with nothing to tell a ratio of."""
    return numerics.get("sqnr_db") is None and numerics.get("elements") == 0


def _is_kept(accuracy: Mapping[str, Any]) -> bool:
    value, float_value = accuracy["value"], accuracy["float_value"]
    if accuracy["metric"] in LOWER_IS_BETTER:
        return bool(ACCURACY_KEPT * value <= float_value)
    return bool(value >= ACCURACY_KEPT * float_value)
