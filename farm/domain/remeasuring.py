"""When a measurement whose conditions were not valid is taken once more, after a pause in which the host may recover.

Waiting mends heat, throttling, load, and what comes of them. It mends neither an emulated host nor a wrong governor,
nor a state that can't be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farm.domain.errors import Actor, Failure
from farm.domain.stage import Kind

INVALID = "invalid"
"""State of an attempt whose measurement is taken once more."""
MENDED_BY_WAITING = frozenset(
    ("throttled", "hot", "loaded", "steal", "clock-low", "memory-pressure", "unstable", "reference-drift")
)
LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True, slots=True)
class Retaking:
    """How often an invalid measurement is taken again, and after which pause; None is the profile's `cool_down_s`.

    A host that tells no `cool_down_s` wants what it told to stand: a short measurement, which is never valid.
    """

    most: int = 0
    pause_s: float | None = None

    def pause_after(self, kind: str, facts: Mapping[str, Any], earlier: int) -> float | None:
        """Give the pause in seconds after which the measurement is taken again; None when what it says stands.

        Args:
            kind: the step's.
            facts: what the host told.
            earlier: invalid attempts before this one.
        """
        conditions = facts.get("conditions")
        if kind != Kind.MEASURE or not isinstance(conditions, Mapping) or earlier >= self.most:
            return None
        reasons = set(conditions.get("reasons") or ())
        if conditions.get("valid") is not False or "emulated" in reasons or not reasons & MENDED_BY_WAITING:
            return None
        told = conditions.get("cool_down_s")
        if not isinstance(told, (int, float)):
            return None
        return min(max(float(told) if self.pause_s is None else self.pause_s, 0.0), LONGEST_PAUSE_S)


def failure_of(facts: Mapping[str, Any], pause_s: float) -> Failure:
    """Say of an attempt why its measurement does not count."""
    conditions = facts["conditions"]
    reasons = [str(reason) for reason in conditions["reasons"]]
    return Failure(
        "invalid-measurement",
        f"The conditions were {', '.join(reasons)}; it is measured once more after {pause_s:g} s.",
        Actor.OPERATOR,
        retryable=True,
        evidence={"reasons": reasons, "cool_down_s": pause_s, "host": conditions.get("host")},
    )


def with_earlier(facts: Mapping[str, Any], earlier: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Keep, beside the conditions of the measurement that stands, why it was taken again."""
    told = [failure["evidence"] for failure in earlier if failure]
    conditions = facts.get("conditions")
    if not told or not isinstance(conditions, Mapping):
        return dict(facts)
    return {**facts, "conditions": {**conditions, "earlier": told}}
