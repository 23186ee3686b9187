"""The answers of a job whose results are all concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm.domain.answer import Candidate
from farm.domain.codec import encode
from farm.domain.conclusion import DROPPED
from farm.domain.goal import lost
from farm.domain.plan import Plan


def answers_of(plan: Plan, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Choose for every model that has a goal, in the plan's order; equal bodies give equal answers.

    Args:
        plan: the job's plan.
        bodies: the concluded results, one for each of the plan's.

    Returns: the report's `answer` of each model, with `model`.
    """
    answers = []
    for model, goal in plan.goals.items():
        candidates = [
            Candidate(body, None if result.baseline is None else bodies[result.baseline], body.get(DROPPED))
            for result, body in zip(plan.results, bodies, strict=True)
            if result.model == model
        ]
        told = goal.answer(candidates)
        left_out = [lost(encode(cell)) for cell in plan.left_out if cell.model == model]
        answers.append({"model": model, **told, "losers": [*told["losers"], *left_out]})
    return answers
