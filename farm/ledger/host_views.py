"""Hosts as users see them: state, queue, predicted start, noise floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import case, select
from sqlalchemy.orm import Session

from farm.ledger import pace, selftests
from farm.ledger.hosts import age_s, now
from farm.ledger.tables import Attempt, Enrolment, Host, SelfTest, Step
from farm.wire.hosts import Attestation, HostState, HostView

OTHERS = " · another project's"
"""What stands for the title of another project's step, which names its model."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is read once for all hosts."""

    loads: Mapping[str, pace.Load]
    shared_by: Mapping[str, int]
    floors: Mapping[str, float]
    tests: Mapping[str, SelfTest]
    revoked: frozenset[str]
    live: frozenset[str]
    project: str


def host_views(session: Session, *, grace_s: float, project: str) -> list[HostView]:
    """Show every host that ever joined, by name; of what one runs for other projects, the stage alone."""
    hosts = session.scalars(select(Host).order_by(Host.name)).all()
    names = [host.name for host in hosts]
    said = {host.name: Attestation.model_validate(host.attestation) for host in hosts}
    farm_now = now(session)
    live = frozenset(host.name for host in hosts if age_s(host, farm_now) < grace_s)
    working = [h.name for h in hosts if h.quarantined is None and h.name in live]
    queues = sorted({queue for name in working for queue in said[name].serves})
    known = _Known(
        loads=pace.loads(session, queues),
        shared_by=Counter(queue for name in working for queue in said[name].serves),
        floors=selftests.noise_floors(session, names),
        tests=selftests.newest(session, names),
        revoked=frozenset(session.scalars(select(Enrolment.name).where(Enrolment.revoked.is_not(None)))),
        live=live,
        project=project,
    )
    return [_view(session, host, said[host.name], known) for host in hosts]


def _view(session: Session, host: Host, said: Attestation, known: _Known) -> HostView:
    live = host.name in known.live
    state = _state(host, known, live=live)
    test = known.tests.get(host.name)
    start_s: float | None = None
    if state == "live":
        running_s = pace.running_s(session, host.running)
        start_s = pace.predicted_start_s(said.serves, known.shared_by, known.loads, running_s)
    return HostView(
        name=host.name,
        profile=said.profile,
        architecture=said.architecture,
        emulated=said.emulated,
        can_measure=said.can_measure,
        isolation=said.isolation,
        live=live,
        last_heartbeat=host.last_heartbeat,
        serves=said.serves,
        environments=said.environments,
        running=_titles(session, host.running, known.project),
        facts=said.facts,
        state=state,
        reason=host.quarantine_reason,
        notice=host.notice,
        queue_length=sum(load.waiting for queue in said.serves if (load := known.loads.get(queue))),
        predicted_start_s=start_s,
        noise_floor_ratio=known.floors.get(host.name),
        self_test=selftests.view(test) if test else None,
    )


def _state(host: Host, known: _Known, *, live: bool) -> HostState:
    if host.name in known.revoked:
        return "revoked"
    if host.quarantined is not None:
        return "quarantined"
    return "live" if live else "away"


def _titles(session: Session, attempts: Sequence[str], project: str) -> list[str]:
    mine = case((Step.project_id == project, Step.title), else_=Step.stage.concat(OTHERS))
    found = select(mine).join(Attempt, Attempt.step_id == Step.id).where(Attempt.id.in_(list(attempts)))
    return list(session.scalars(found))
