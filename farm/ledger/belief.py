"""A host's success is believed when it can be; else it is that host's failure, and the step goes elsewhere."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.domain.errors import Actor, BadMeasurement, Failure, HostError
from farm.domain.stage import Kind
from farm.domain.told import nonsense
from farm.ledger.attempts import Finished
from farm.ledger.tables import Attempt, Host, Step


def believable(session: Session, attempt_id: str, finished: Finished) -> Finished:
    """Return what a host reported, or its failure in place of a success that can't be.

    A failure that a host is to mend names it: whoever reads the message has to know where the disk is full.
    """
    found = session.execute(
        select(Step, Attempt.host).join(Attempt, Attempt.step_id == Step.id).where(Attempt.id == attempt_id)
    ).first()
    if found is None:
        return finished
    step, name = found
    if finished.state != "succeeded":
        return replace(finished, failure=_named(finished.failure, name))
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


def _named(failure: Failure | None, host: str) -> Failure | None:
    if failure is None or failure.who_must_act is not Actor.HOST or host in failure.message:
        return failure
    return replace(failure, message=f"On host {host}: {failure.message}", evidence={"host": host, **failure.evidence})
