"""Hosts as they are judged: by their self-tests, and by the steps that broke on them, which go to a peer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, func, select, update

from farm.control.selftests import ask_due, begin_tests, judge_tests
from farm.ledger import attempts, steps
from farm.ledger.tables import Attempt, Host, Job, Outbox, Result, SelfTest, Step
from tests.control_fixtures import HOST, QUEUE, Farm, farm, new_job, planned, row_of, whole_farm
from tests.host_calls import attest, call, claimed, client, enroll, fail_full, host_now

__all__ = ["client", "farm", "whole_farm"]
CONDITIONS = {"valid": True, "reasons": [], "emulated": False}


def end_test(farm: Farm, body: dict[str, Any]) -> None:
    """Let the job of the one running self-test end with a result."""
    with farm.ledger.transaction() as session:
        (row,) = session.scalars(select(SelfTest).where(SelfTest.verdict == "running"))
        job = session.get_one(Job, row.job_id)
        session.add(Result(job_id=job.id, position=0, listed=True, concluded=True, published=True, body=body))
        job.state, job.ended = "succeeded", func.now()
    farm.ledger.run(lambda session: judge_tests(session, farm.config))


def test_a_self_test_is_a_pinned_job_and_its_figures_are_the_hosts_history(farm: Farm, client: TestClient) -> None:
    attest(client, "pi-1", enroll(client, "pi-1"))
    (asked,) = call(client, "/hosts/pi-1/self-tests").json()
    (same,) = call(client, "/hosts/pi-1/self-tests").json()
    assert asked["asked"] == same["asked"], "one that is under way is not asked for twice"

    farm.ledger.run(lambda session: begin_tests(session, farm.store, farm.config))
    with farm.ledger.transaction() as session:
        job = session.get_one(Job, session.scalars(select(SelfTest.job_id)).one())
    assert (job.request["host"], job.request["runtimes"], job.labels) == (
        "pi-1",
        ["onnxruntime"],
        {"self-test": "pi-1"},
    )

    summary = {"p50": 900.0, "noise_floor_ratio": 0.05}
    conditions = {"valid": True, "emulated": False}
    end_test(farm, {"execution_summary": summary, "conditions": conditions, "numerics": {"sqnr_db": 130.0}})
    views = {view["name"]: view for view in client.get("/v1/hosts", headers={"Authorization": "Bearer token"}).json()}
    assert views["pi-1"]["noise_floor_ratio"] == 0.05
    assert views["pi-1"]["self_test"]["verdict"] == "passed"


def test_a_host_that_computes_otherwise_is_quarantined_and_may_still_test_itself(
    farm: Farm, client: TestClient
) -> None:
    attest(client, "pi-1", enroll(client, "pi-1"))
    call(client, "/hosts/pi-1/self-tests")
    farm.ledger.run(lambda session: begin_tests(session, farm.store, farm.config))
    end_test(farm, {"failure_type": "numerics-broken", "message": "scores: 3.1 dB under the source's."})

    assert "computes otherwise than its peers: scores: 3.1 dB" in (host_now(farm, "pi-1").quarantine_reason or "")
    call(client, "/hosts/pi-1/self-tests")
    farm.ledger.run(lambda session: begin_tests(session, farm.store, farm.config))
    with farm.ledger.transaction() as session:
        job_id = session.scalars(select(SelfTest.job_id).where(SelfTest.verdict == "running")).one()
        session.get_one(Job, job_id)
        steps.enlist(session, session.get_one(Job, job_id), [planned("test-step")])
        session.flush()
        step = row_of(session, session.get_one(Job, job_id), "test-step")
        steps.dispatch(session, [step.id])
        attempts.claim(session, step_id=step.id, number=1, host="pi-1", lease_s=20)
        assert session.get_one(Step, step.id).phase == "running"


def asked_for(farm: Farm) -> list[tuple[str, str]]:
    farm.ledger.run(lambda session: ask_due(session, farm.config))
    with farm.ledger.transaction() as session:
        return sorted((test.host, test.asked_by) for test in session.scalars(select(SelfTest)))


def joined_ago(farm: Farm, name: str, ago: timedelta) -> None:
    with farm.ledger.transaction() as session:
        session.get_one(Host, name).joined = func.now() - ago


def test_tests_are_asked_for_daily_and_first_when_a_host_that_joined_has_nothing_to_do(
    farm: Farm, client: TestClient
) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)
    assert asked_for(farm) == [], "it only just joined"
    joined_ago(farm, "pi-1", timedelta(minutes=2))
    claimed(farm, client, "pi-1", token)
    assert asked_for(farm) == [], "it is at work"
    joined_ago(farm, "pi-1", timedelta(minutes=11))
    assert asked_for(farm) == [("pi-1", "daily")], "it never rests"

    attest(client, "pi-2", enroll(client, "pi-2"), serves=["target.x86-64-v4", "host.pi-2"])
    joined_ago(farm, "pi-2", timedelta(minutes=2))
    assert asked_for(farm) == asked_for(farm) == [("pi-1", "daily"), ("pi-2", "daily")]
    with farm.ledger.transaction() as session:
        session.execute(update(SelfTest).values(verdict="passed", asked=func.now() - timedelta(days=2)))
    assert asked_for(farm) == [("pi-1", "daily")] * 2 + [("pi-2", "daily")] * 2


def drifted(farm: Farm, name: str, p50_us: float, *, drifts: bool) -> None:
    figures = {"p50_us": p50_us, "valid": True, "drifts": drifts, "noise_floor_ratio": 0.02}
    with farm.ledger.transaction() as session:
        session.add(SelfTest(host=name, runtime="onnxruntime", asked_by="daily", verdict="passed", figures=figures))


def test_a_release_ends_a_drifts_quarantine_and_begins_a_new_history(farm: Farm, client: TestClient) -> None:
    """An operator who changed a board's clock has it measured as it is now."""
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)
    for p50_us in (900.0, 905.0, 899.0, 902.0):
        drifted(farm, "pi-1", p50_us, drifts=False)
    drifted(farm, "pi-1", 1500.0, drifts=True)
    slow = {
        "execution_summary": {"p50": 1500.0, "noise_floor_ratio": 0.02},
        **{"conditions": CONDITIONS, "numerics": {"sqnr_db": 130.0}},
    }
    run_test(farm, client, "pi-1", slow)
    assert "1.66 times its median" in (host_now(farm, "pi-1").quarantine_reason or "")

    call(client, "/hosts/pi-1/release")
    run_test(farm, client, "pi-1", slow)

    assert host_now(farm, "pi-1").quarantined is None


def run_test(farm: Farm, client: TestClient, name: str, body: dict[str, Any]) -> None:
    call(client, f"/hosts/{name}/self-tests")
    farm.ledger.run(lambda session: begin_tests(session, farm.store, farm.config))
    end_test(farm, body)


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


def test_a_host_without_the_planned_program_leaves_the_step_to_one_that_has_it(farm: Farm, client: TestClient) -> None:
    """Every x86 host with the environment serves the queue; the operator's program is on one of them."""
    program, lacking, having = "edgetpu_compiler", enroll(client, "coral"), enroll(client, "desk")
    attest(client, "coral", lacking)
    with farm.ledger.transaction() as session:
        job = new_job(session, [replace(planned("one"), programs={program: "a" * 64})])
        session.flush()
        step = row_of(session, job, "one").id
        steps.dispatch(session, [step])
        session.execute(delete(Outbox))
    asked = {"host": "coral", "step": step, "attempt": 1}

    alone = call(client, "/claims", asked, token=lacking)
    assert alone.status_code == 409
    assert alone.json()["detail"].endswith("was planned with; it waits for a host that has it.")
    assert attest(client, "desk", having, environments={"builder": "lock", program: "b" * 64}).status_code == 204
    assert "waits for a host" in call(client, "/claims", asked, token=lacking).json()["detail"]

    attest(client, "desk", having, environments={"builder": "lock", program: "a" * 64})
    beside = call(client, "/claims", asked, token=lacking)
    assert beside.status_code == 409
    assert beside.json()["detail"].endswith("was planned with; it is left to desk.")
    with farm.ledger.transaction() as session:
        assert session.scalars(select(Outbox.attempt)).all() == [1], "its message goes on"
    assert call(client, "/claims", asked | {"host": "desk"}, token=having).status_code == 201
