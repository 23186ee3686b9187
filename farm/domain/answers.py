"""The answers of a job whose results are all concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farm.domain.answer import Candidate
from farm.domain.codec import encode
from farm.domain.conclusion import DROPPED
from farm.domain.data import CHOSEN_BY
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
        on = decided_on([one.body for one in candidates])
        answers.append({"model": model, **told, "losers": [*told["losers"], *left_out], "decided_on": on})
    return answers


def decided_on(bodies: Sequence[Mapping[str, Any]]) -> str:
    """Say whether the samples by which one model's results were chosen are those that its figures are shown of."""
    numerics = [body["numerics"] for body in bodies if (body.get("numerics") or {}).get("sqnr_db") is not None]
    scores = [body["accuracy"] for body in bodies if body.get("accuracy")]
    flatters = "the winner's flatters a little"
    if not numerics:
        return "No output was compared."
    if not all(CHOSEN_BY in told for told in numerics):
        return f"Accuracy and SQNR decided on the samples that they are shown of, so {flatters}."
    apart = "The samples that decided neither calibrated nor are shown in the results"
    if all(CHOSEN_BY in told for told in scores):
        return f"{apart}."
    return (
        f"{apart}, but for {scores[0]['metric']}: it decided on the evaluation data that it is shown of, so {flatters}."
    )
