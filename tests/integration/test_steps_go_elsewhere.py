"""A step that broke on a host goes to another one: the failing host is the idle one, and asks first each time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, func, select

from farm.ledger.tables import Attempt, Host, Outbox, Step
from tests.control_fixtures import HOST, QUEUE, Farm, farm, whole_farm
from tests.host_calls import attest, call, claimed, client, enroll, fail_full

__all__ = ["client", "farm", "whole_farm"]


def test_a_step_that_broke_on_a_host_is_left_to_its_healthy_peer(farm: Farm, client: TestClient) -> None:
    """The failing board is the idle one: it asks first, each time."""
    full, healthy = enroll(client, "pi-1"), enroll(client, "pi-2")
    attest(client, "pi-1", full), attest(client, "pi-2", healthy)
    with farm.ledger.transaction() as session:
        session.get_one(Host, HOST).last_heartbeat = func.now() - timedelta(hours=1)
    step, taken = claimed(farm, client, "pi-1", full)
    fail_full(client, taken.json(), full)

    with farm.ledger.transaction() as session:
        failure = session.scalars(select(Attempt.failure).where(Attempt.host == "pi-1")).one()
    assert failure is not None
    assert failure["message"] == "On host pi-1: No space left."

    for _ in range(2):
        refused = call(client, "/claims", {"host": "pi-1", "step": step, "attempt": 2}, token=full)
        assert refused.status_code == 409
        assert refused.json()["detail"] == f"one broke on pi-1; it is left to pi-2, which serves {QUEUE} too."
    with farm.ledger.transaction() as session:
        due = session.scalars(select(Outbox).where(Outbox.step_id == step, Outbox.attempt == 2)).all()
        assert len(due) == 1, "its message is sent again, once"
    second = call(client, "/claims", {"host": "pi-2", "step": step, "attempt": 2}, token=healthy)
    assert second.status_code == 201

    fail_full(client, second.json(), healthy)
    third = call(client, "/claims", {"host": "pi-1", "step": step, "attempt": 3}, token=full)
    assert third.status_code == 201, "nobody is left who did not fail it"


def test_a_refused_steps_message_that_was_sent_is_sent_again_after_a_moment(farm: Farm, client: TestClient) -> None:
    full = enroll(client, "pi-1")
    attest(client, "pi-1", full), attest(client, "pi-2", enroll(client, "pi-2"))
    step, taken = claimed(farm, client, "pi-1", full)
    fail_full(client, taken.json(), full)
    with farm.ledger.transaction() as session:
        session.execute(delete(Outbox))
        session.get_one(Step, step).phase = "published"

    call(client, "/claims", {"host": "pi-1", "step": step, "attempt": 2}, token=full)

    with farm.ledger.transaction() as session:
        (entry,) = session.scalars(select(Outbox))
        assert (entry.step_id, entry.attempt) == (step, 2)
        assert session.scalar(select(entry.not_before > func.now()))
        session.get_one(Step, step).ready = func.now() - timedelta(minutes=11)
    late = call(client, "/claims", {"host": "pi-1", "step": step, "attempt": 2}, token=full)
    assert late.status_code == 201, "a peer that takes nothing for ten minutes holds nothing up"


@pytest.mark.parametrize(
    "changes",
    [{"environments": {"builder": "another"}}, {"serves": ["host.pi-2"]}, {}],
    ids=["another environment", "another queue", "silent"],
)
def test_a_host_tries_again_itself_where_no_live_peer_may_take_it(
    farm: Farm, client: TestClient, changes: dict[str, Any]
) -> None:
    full = enroll(client, "pi-1")
    attest(client, "pi-1", full), attest(client, "pi-2", enroll(client, "pi-2"), **changes)
    with farm.ledger.transaction() as session:
        for name in (HOST,) if changes else (HOST, "pi-2"):
            session.get_one(Host, name).last_heartbeat = func.now() - timedelta(seconds=30)
    step, taken = claimed(farm, client, "pi-1", full)
    fail_full(client, taken.json(), full)

    assert call(client, "/claims", {"host": "pi-1", "step": step, "attempt": 2}, token=full).status_code == 201
