"""Steps that no host may claim are given up once that has lasted, so that their jobs don't hang."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from farm.ledger.unservable import fail_unservable, unservable


@dataclass(slots=True)
class StuckSteps:
    """Watches how long steps have had no host; hosts that are back within the grace are waited for.

    It begins to count when it sees them: what it did not watch, while control was stopped, does not count.
    """

    grace_s: float
    since_s: dict[str, float] = field(default_factory=dict)
    """Step -> monotonic time at which it was first seen without a host that may claim it."""

    def give_up(self, session: Session) -> bool:
        """Fail the steps that have been stuck for the grace; False, since nothing more is due now."""
        now_s = time.monotonic()
        self.since_s = {step: self.since_s.get(step, now_s) for step in unservable(session, grace_s=self.grace_s)}
        due = [step for step, since_s in self.since_s.items() if now_s - since_s >= self.grace_s]
        if due:
            fail_unservable(session, due, grace_s=self.grace_s)
        return False
