"""Self-tests of hosts: asked for, begun as jobs, concluded; their history is the host's noise floor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from farm.domain.errors import Conflict, NotFound
from farm.domain.progress import StepPhase
from farm.ledger.events import CONTROL
from farm.ledger.hosts import is_young
from farm.ledger.session import notify
from farm.ledger.tables import Host, Job, SelfTest, Step
from farm.wire.hosts import Attestation, SelfTestView

RUNTIMES = ("onnxruntime", "litert")
"""Runtimes with a pinned model for the test, in the order of preference."""
RUNNING = "running"
SETTLED_S, WAITED_S = 60.0, 600.0
"""A host's first test waits until it joined so long ago: the shorter one when nothing is to be done, the longer one
beside other work. Who just started a farm has a job to submit, and a host that never rests has a noise floor too."""


def ask(session: Session, name: str, asked_by: str, *, grace_s: float) -> list[SelfTest]:
    """Have a host tested under each runtime it has; a test that is under way is not asked for twice.

    Raises:
        NotFound: no such host.
        Conflict: it is not alive, or may not measure.
    """
    host = session.get(Host, name, with_for_update=True)
    if host is None:
        raise NotFound(f"No host {name} ever joined.", remedy="See `farm hosts`.")
    said = Attestation.model_validate(host.attestation)
    if not session.scalar(select(exists().where(Host.name == name, is_young(grace_s)))):
        raise Conflict(f"Host {name} is away, last heard at {host.last_heartbeat:%Y-%m-%d %H:%M} UTC.")
    if not said.can_measure:
        raise Conflict(
            f"Host {name} builds only: it satisfies {said.profile}, and nothing proves that it is one.",
            remedy="Start its worker with the profile that `farm probe` names there.",
        )
    runtimes = [name for name in RUNTIMES if name in said.environments]
    if not runtimes:
        raise Conflict(f"Host {name} has none of the environments {', '.join(RUNTIMES)} that a self-test needs.")
    return [_ask_one(session, name, runtime, asked_by) for runtime in runtimes]


def _ask_one(session: Session, host: str, runtime: str, asked_by: str) -> SelfTest:
    mine = select(SelfTest).where(SelfTest.host == host, SelfTest.runtime == runtime, SelfTest.verdict == RUNNING)
    under_way = session.scalar(mine)
    if under_way is not None:
        return under_way
    row = SelfTest(host=host, runtime=runtime, asked_by=asked_by)
    session.add(row)
    session.flush()
    session.refresh(row)
    notify(session, CONTROL)
    return row


def ask_again(session: Session, row: SelfTest) -> None:
    """Have the same test made once more."""
    _ask_one(session, row.host, row.runtime, "repeat")


def ask_due(session: Session, *, every_s: float, grace_s: float) -> None:
    """Ask for the tests of live hosts in rotation that had none for so long.

    A host that joined lately is given its noise floor as soon as nothing waits for it, else beside other work after a
    while.
    """
    since = func.now() - timedelta(seconds=every_s)
    lately = exists().where(SelfTest.host == Host.name, SelfTest.asked > since)
    able = Host.attestation["can_measure"].as_boolean()
    unended = Step.phase.in_([StepPhase.READY.value, StepPhase.PUBLISHED.value, StepPhase.RUNNING.value])
    busy = exists().where(unended, Host.attestation["serves"].contains(func.to_jsonb(Step.queue)))
    settled, waited = (Host.joined <= func.now() - timedelta(seconds=min(every_s, s)) for s in (SETTLED_S, WAITED_S))
    ripe = or_(waited, and_(settled, ~busy))
    due = select(Host.name).where(is_young(grace_s), Host.quarantined.is_(None), able, ~lately, ripe)
    for name in session.scalars(due).all():
        if any(e in RUNTIMES for e in session.get_one(Host, name).attestation["environments"]):
            ask(session, name, "daily", grace_s=grace_s)


def to_begin(session: Session) -> list[SelfTest]:
    """Take the tests that have no job yet."""
    open_ = select(SelfTest).where(SelfTest.verdict == RUNNING, SelfTest.job_id.is_(None)).order_by(SelfTest.id)
    return list(session.scalars(open_.with_for_update(skip_locked=True)))


def ended(session: Session) -> list[tuple[SelfTest, Job]]:
    """Take the tests whose job has ended."""
    done = select(SelfTest, Job).join(Job, Job.id == SelfTest.job_id)
    found = done.where(SelfTest.verdict == RUNNING, Job.ended.is_not(None)).order_by(SelfTest.id)
    return list(session.execute(found.with_for_update(of=SelfTest, skip_locked=True)))


def earlier_figures(session: Session, row: SelfTest, limit: int = 20) -> list[dict[str, Any]]:
    """List the figures of the host's earlier tests under the same runtime since its last release, newest first."""
    same = (SelfTest.host == row.host, SelfTest.runtime == row.runtime, SelfTest.id != row.id)
    since = or_(Host.released.is_(None), SelfTest.asked > Host.released)
    tests = select(SelfTest.figures).join(Host, Host.name == SelfTest.host)
    found = tests.where(*same, since, SelfTest.verdict != RUNNING).order_by(SelfTest.asked.desc())
    return list(session.scalars(found.limit(limit)))


def history(session: Session, name: str, limit: int) -> list[SelfTest]:
    """List a host's tests, newest first."""
    found = select(SelfTest).where(SelfTest.host == name).order_by(SelfTest.asked.desc(), SelfTest.id.desc())
    return list(session.scalars(found.limit(limit)))


def newest(session: Session, names: Sequence[str]) -> dict[str, SelfTest]:
    """Find the newest test of each host."""
    ranked = select(SelfTest).where(SelfTest.host.in_(names)).ext(distinct_on(SelfTest.host))
    return {row.host: row for row in session.scalars(ranked.order_by(SelfTest.host, SelfTest.asked.desc()))}


def noise_floors(session: Session, names: Sequence[str]) -> dict[str, float]:
    """Find the noise floor of each host: that of its newest test that passed."""
    passed = select(SelfTest).where(SelfTest.host.in_(names), SelfTest.verdict == "passed")
    rows = session.scalars(passed.ext(distinct_on(SelfTest.host)).order_by(SelfTest.host, SelfTest.asked.desc()))
    floors = {row.host: (row.figures.get("noise_floor_ratio"), row.figures.get("emulated")) for row in rows}
    return {host: float(floor) for host, (floor, emulated) in floors.items() if floor is not None and not emulated}


def is_test(session: Session, job_id: str) -> bool:
    return bool(session.scalar(select(exists().where(SelfTest.job_id == job_id))))


def view(row: SelfTest) -> SelfTestView:
    return SelfTestView.model_validate(
        {
            **{"runtime": row.runtime, "asked": row.asked, "asked_by": row.asked_by, "job": row.job_id},
            **{"ended": row.ended, "verdict": row.verdict, "reasons": row.reasons, "figures": row.figures},
        }
    )
