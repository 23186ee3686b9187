"""Steps that no host may claim: given up once that lasted, and not before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from farm.control.stuck import StuckSteps
from farm.ledger import steps
from farm.ledger.tables import Host, Step, Wakeup
from tests.control_fixtures import HOST, Farm, attest, farm, new_job, planned, whole_farm

__all__ = ["farm", "whole_farm"]
GRACE_S = 60.0


@pytest.fixture
def watch(farm: Farm) -> StuckSteps:
    """Have one step that is ready, and a watch that has not seen it yet."""
    with farm.ledger.transaction() as session:
        new_job(session, [planned("one")])
        session.flush()
        steps.dispatch(session, session.scalars(select(Step.id)).all())
    return StuckSteps(GRACE_S)


def look(farm: Farm, watch: StuckSteps, *, later_s: float = 0.0) -> Step:
    watch.since_s = {step: since_s - later_s for step, since_s in watch.since_s.items()}
    farm.ledger.run(watch.give_up)
    with farm.ledger.transaction() as session:
        return session.scalars(select(Step)).one()


def test_a_step_whose_environment_nobody_has_any_more_fails_after_the_grace(farm: Farm, watch: StuckSteps) -> None:
    with farm.ledger.transaction() as session:
        attest(session, "another lock")

    assert look(farm, watch).phase == "ready"
    step = look(farm, watch, later_s=GRACE_S)

    assert step.phase == "failed"
    assert step.failure is not None
    assert (step.failure["code"], step.failure["who_must_act"]) == ("environment-missing", "operator")
    with farm.ledger.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Wakeup)) == 2


def test_a_step_whose_host_is_back_within_the_grace_goes_on(farm: Farm, watch: StuckSteps) -> None:
    with farm.ledger.transaction() as session:
        attest(session, "another lock")
    look(farm, watch)
    with farm.ledger.transaction() as session:
        attest(session)

    assert look(farm, watch, later_s=GRACE_S).phase == "ready"


def test_steps_wait_while_no_host_at_all_is_heard(farm: Farm, watch: StuckSteps) -> None:
    with farm.ledger.transaction() as session:
        session.get_one(Host, HOST).last_heartbeat = func.now() - timedelta(hours=8)

    look(farm, watch)

    assert look(farm, watch, later_s=GRACE_S).phase == "ready"


def test_a_step_whose_program_nobody_has_any_more_fails_after_the_grace(farm: Farm) -> None:
    """Hosts that have the environment alone don't count: the claim would be refused."""
    with farm.ledger.transaction() as session:
        new_job(session, [replace(planned("one"), programs={"edgetpu_compiler": "a" * 64})])
        session.flush()
        steps.dispatch(session, session.scalars(select(Step.id)).all())
        attest(session, edgetpu_compiler="a" * 64)
    watch = StuckSteps(GRACE_S)
    look(farm, watch)
    assert look(farm, watch, later_s=GRACE_S).phase == "ready"

    with farm.ledger.transaction() as session:
        attest(session, edgetpu_compiler="b" * 64)
    look(farm, watch)
    step = look(farm, watch, later_s=GRACE_S)

    assert step.failure is not None
    assert (step.failure["code"], step.failure["who_must_act"]) == ("environment-missing", "operator")
    assert "has environment builder and the edgetpu_compiler one was planned with" in step.failure["message"]
