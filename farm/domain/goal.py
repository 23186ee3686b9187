"""What a job wants chosen: constraints and an objective, one goal per model, one answer per goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from farm.domain.answer import Candidate, Objective, choose
from farm.domain.constraint import Body, Constraint, against_metrics, contradictions, parse_constraint
from farm.domain.errors import BadRequest, FarmError

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
FIDELITY = ("accuracy", "sqnr")
WITH_SCORE, WITHOUT_SCORE = ("accuracy >= 0.99*float",), ("sqnr >= 20dB",)
"""What a search keeps of its fidelity unless it is told: where accuracy is evaluated, and where it is not."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What one model's results are chosen by."""

    constraints: tuple[str, ...] = ()
    objective: str = "latency"

    @property
    def prefers(self) -> Objective:
        (objective,) = (one for one in OBJECTIVES if one == self.objective)
        return objective

    @property
    def parsed(self) -> list[Constraint]:
        return [parse_constraint(text) for text in self.constraints]

    def breaks_early(self, body: Body) -> str | None:
        """Say which constraint a result breaks that neither a measurement nor another result can mend.

        Args:
            body: a result's `numerics`, `accuracy` and `artifact`.
        """
        known = [one for one in self.parsed if not one.quantity.needs_measurement]
        alone = [one for one in known if not one.relative or one.quantity.name == "accuracy"]
        return "; ".join(reason for one in alone if (reason := one.broken_by(body, None))) or None

    def misses_fidelity(self, body: Body) -> bool:
        """Tell whether a result's accuracy or SQNR is not what is asked for, as far as it tells them."""
        return any(one.broken_by(body, None) is not None for one in self.parsed if one.quantity.name in FIDELITY)

    @property
    def asks_fidelity(self) -> bool:
        return any(one.quantity.name in FIDELITY for one in self.parsed)

    def answer(self, candidates: Sequence[Candidate]) -> dict[str, Any]:
        """Choose among one model's results."""
        return choose(candidates, self.parsed, self.prefers)


def least_sqnr_db(constraints: Sequence[str]) -> float | None:
    """Return the SQNR in dB that constraints ask for; None when they ask for none."""
    parsed = [parse_constraint(text) for text in constraints]
    asked = [one.bound for one in parsed if (one.quantity.name, one.sign, one.relative) == ("sqnr", ">=", False)]
    return max(asked, default=None)


def usual_goal(constraints: Sequence[str], objective: str, *, scored: bool) -> Goal:
    """Make the goal of a search: what the user asks for, and the fidelity of the house where they ask for none.

    Args:
        constraints: the user's.
        objective: the user's.
        scored: whether accuracy is evaluated.
    """
    about = {parse_constraint(text).quantity.name for text in constraints}
    usual = WITH_SCORE if scored else WITHOUT_SCORE
    named = about & ({"accuracy"} if scored else {"accuracy", "sqnr"})
    return Goal((*constraints, *(() if named else usual)), objective)


def goal_errors(
    constraints: Sequence[str], objective: str | None, *, unscored: Sequence[str], metrics: Sequence[str] = ()
) -> list[FarmError]:
    """Find everything that is wrong with constraints and objective.

    Args:
        constraints: as the user wrote them.
        objective: what to prefer among results that satisfy them; None for the default.
        unscored: the models that bring no samples to score.
        metrics: those that were named; the default ones are accuracies, of which more is better.
    """
    errors: list[FarmError] = []
    parsed = []
    for text in dict.fromkeys(constraints):
        try:
            parsed.append(parse_constraint(text))
        except BadRequest as error:
            errors.append(error)
    errors += [*against_metrics(parsed, metrics), *contradictions(parsed)]
    scores = [one.text for one in parsed if one.quantity.name == "accuracy"]
    if scores and unscored:
        errors.append(
            BadRequest(
                f"Constraint {scores[0]!r} needs samples to score, and {', '.join(unscored)} has none.",
                remedy="Add --evaluation FILE.npz with labels, or --calibration FILE.npz for the agreement with the "
                "source, or ask for 'sqnr >= 20dB', which needs no samples.",
            )
        )
    if objective is not None and objective not in OBJECTIVES:
        errors.append(BadRequest(f"There is no objective {objective!r}; known are {', '.join(OBJECTIVES)}."))
    return errors


def lost(cell: Mapping[str, Any]) -> dict[str, str]:
    """Tell a cell that was left out as a loser."""
    return {name: str(cell[name]) for name in ("model", "target", "target_runtime", "recipe", "reason")}
