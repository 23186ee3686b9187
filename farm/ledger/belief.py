"""A host's success is believed when it can be; else it is that host's failure, and the step goes elsewhere."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.domain.errors import BadMeasurement, HostError
from farm.domain.stage import Kind
from farm.domain.told import nonsense
from farm.ledger.attempts import Finished
from farm.ledger.tables import Attempt, Host, Step


def believable(session: Session, attempt_id: str, finished: Finished) -> Finished:
    """Return what a host reported, or its failure in place of a success that can't be."""
    found = session.execute(
        select(Step, Attempt.host).join(Attempt, Attempt.step_id == Step.id).where(Attempt.id == attempt_id)
    ).first()
    if found is None or finished.state != "succeeded":
        return finished
    step, name = found
    measures = step.kind == Kind.MEASURE
    why = nonsense(Kind(step.kind), finished.outputs, finished.facts)
    if why is None and measures and finished.facts["conditions"]["valid"]:
        emulated = session.get_one(Host, name).attestation["emulated"]
        why = None if emulated is False else "a valid measurement, which a host that may be emulated can't make"
    if why is None:
        return finished
    kind = BadMeasurement if measures else HostError
    error = kind(
        f"Host {name} reported success of {step.title} with {why}.",
        remedy=f"See its log and test it: farm host selftest {name}.",
        host=name,
    )
    return replace(finished, state="failed", outputs={}, facts={}, contract=None, failure=error.failure)
