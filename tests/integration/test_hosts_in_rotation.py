"""Hosts as the API and the ledger keep them: enrolled, told apart, turned away, quarantined, tested."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from farm.control.quarantine import quarantine_breakers
from farm.domain.codec import encode
from farm.domain.errors import HostLost
from farm.ledger.access import add_token
from farm.ledger.hosts import live_hosts
from farm.ledger.tables import Attempt, Host, Step
from tests.control_fixtures import Farm, farm, new_job, planned, row_of, whole_farm
from tests.host_calls import attest, beat, call, claimed, client, enroll, host_now

__all__ = ["client", "farm", "whole_farm"]


def test_a_hosts_token_is_good_for_its_name_alone_and_the_operator_hears_who_tried(
    farm: Farm, client: TestClient
) -> None:
    token = enroll(client, "pi-1")
    assert attest(client, "pi-1", token).status_code == 204

    for answer in (attest(client, "pi-2", token), beat(client, "pi-2", token)):
        assert answer.status_code == 401
        assert answer.json()["detail"] == "This token is host pi-1's; the call speaks for pi-2."
    assert call(client, "/hosts/enrolments", {"name": "x"}, token=token).status_code == 401

    assert "calls itself pi-2 brought the token of pi-1" in (host_now(farm, "pi-1").notice or "")
    assert "pi-2" in beat(client, "pi-1", token).json()["notice"]


def test_a_revoked_token_is_told_from_an_unknown_one_and_enrolling_again_mends_it(
    farm: Farm, client: TestClient
) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)
    assert call(client, "/hosts/pi-1/revoke").status_code == 204

    answer = beat(client, "pi-1", token)
    assert answer.status_code == 401
    assert answer.json()["detail"].startswith("The token of host pi-1 was revoked at ")
    assert "farm host enroll pi-1" in answer.json()["remedy"]
    assert beat(client, "pi-1", "never-given").json()["detail"] == "The token is unknown here."
    assert host_now(farm, "pi-1").quarantined is not None
    assert call(client, "/hosts/pi-1/release").status_code == 409

    fresh = enroll(client, "pi-1")
    assert attest(client, "pi-1", fresh).status_code == 204
    assert host_now(farm, "pi-1").quarantined is None
    assert attest(client, "pi-1", token).status_code == 401


def test_two_workers_with_one_name_the_second_is_refused_and_the_first_is_told(farm: Farm, client: TestClient) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)

    second = attest(client, "pi-1", token, instance="another")
    assert second.status_code == 409
    assert "A worker named pi-1 serves already" in second.json()["detail"]
    assert second.json()["evidence"]["retry_after_s"] > 0
    assert "asked for the name pi-1" in beat(client, "pi-1", token).json()["notice"]

    call(client, "/hosts/leave", {"name": "pi-1", "instance": "i-pi-1"}, token=token)
    assert attest(client, "pi-1", token, instance="another").status_code == 204


def test_a_name_whose_worker_fell_silent_is_free_and_the_old_worker_learns_it(farm: Farm, client: TestClient) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)
    with farm.ledger.transaction() as session:
        session.get_one(Host, "pi-1").last_heartbeat = func.now() - timedelta(seconds=30)

    assert attest(client, "pi-1", token, instance="another").status_code == 204
    late = beat(client, "pi-1", token)
    assert late.status_code == 409
    assert late.json()["detail"] == "Another worker serves as pi-1 since this one was silent."


def test_a_clock_that_is_minutes_off_is_told_and_nothing_else_changes(farm: Farm, client: TestClient) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)

    slow = beat(client, "pi-1", token, clock_s=time.time() - 420).json()
    assert slow["notice"] == "Its clock is 7 min behind the farm's; have it set by NTP, else its logs mislead."
    _, taken = claimed(farm, client, "pi-1", token)
    assert taken.status_code == 201, "leases are of the farm's own clock"
    ahead = beat(client, "pi-1", token, clock_s=time.time() + 3600, running=[taken.json()["attempt"]]).json()
    assert (ahead["stop"], "60 min ahead" in ahead["notice"]) == ([], True)
    assert beat(client, "pi-1", token, clock_s=time.time() - 5).json()["notice"] is None


def test_a_host_that_is_not_what_it_was_enrolled_as_is_refused(client: TestClient) -> None:
    token = enroll(client, "pi-1", "raspberry-pi-4")

    answer = attest(client, "pi-1", token)
    assert answer.status_code == 409
    assert answer.json()["detail"] == "Host pi-1 was enrolled as raspberry-pi-4; its worker says x86-64-v3."
    wrong = call(client, "/hosts/enrolments", {"name": "pi-2", "profile": "raspbery-pi-4"})
    assert wrong.status_code == 422
    assert "did you mean raspberry-pi-4" in wrong.json()["detail"]


def test_a_token_learns_its_name_profile_and_broker(farm: Farm, client: TestClient) -> None:
    token = enroll(client, "pi-1", "raspberry-pi-4")
    told = client.get("/v1/hosts/self", headers={"Authorization": f"Bearer {token}"}).json()

    assert told == {"name": "pi-1", "profile": "raspberry-pi-4", "project": "default", "redis_url": None}
    script = client.get("/v1/hosts/join.sh", headers={"Authorization": f"Bearer {token}"}).text
    assert "host=pi-1" in script
    assert "executorch litert onnxruntime openvino" in script
    assert token not in script


def test_a_quarantined_host_loses_its_work_to_others_and_claims_none(farm: Farm, client: TestClient) -> None:
    first, second = enroll(client, "pi-1"), enroll(client, "pi-2")
    attest(client, "pi-1", first), attest(client, "pi-2", second)
    step, taken = claimed(farm, client, "pi-1", first)
    assert taken.status_code == 201

    assert call(client, "/hosts/pi-1/quarantine", {"reason": "its fan died"}).status_code == 204

    told = beat(client, "pi-1", first, running=[taken.json()["attempt"]]).json()
    assert told["quarantined"] == "its fan died"
    assert told["stop"] == [taken.json()["attempt"]]
    again = call(client, "/claims", {"host": "pi-1", "step": step, "attempt": 2}, token=first)
    assert (again.status_code, again.json()["detail"]) == (409, "Host pi-1 is quarantined: its fan died")
    assert call(client, "/claims", {"host": "pi-2", "step": step, "attempt": 2}, token=second).status_code == 201
    with farm.ledger.transaction() as session:
        assert [host.name for host in live_hosts(session, grace_s=60) if host.name.startswith("pi")] == ["pi-2"]
        failure = session.scalars(select(Attempt.failure).where(Attempt.host == "pi-1")).one()
    assert failure is not None
    assert failure["message"] == "Host pi-1 was quarantined: its fan died"

    call(client, "/hosts/pi-1/release")
    views = {view["name"]: view for view in client.get("/v1/hosts", headers={"Authorization": "Bearer token"}).json()}
    assert (views["pi-1"]["state"], views["pi-1"]["reason"]) == ("live", None)


SUMMARY = {"estimated_inference_time": 5.0, "p50": 5.0, "first_load_time": 9.0, "all_inference_times": [[5.0, 5.1]]}
CONDITIONS = {"valid": True, "reasons": [], "emulated": False}


@pytest.mark.parametrize(
    ("kind", "facts", "told"),
    [
        ("measure", {}, "no usable execution_summary"),
        ("measure", {"execution_summary": SUMMARY | {"p50": -5.0}, "conditions": CONDITIONS}, "execution_summary.p50"),
        ("measure", {"execution_summary": SUMMARY | {"p50": float("nan")}, "conditions": CONDITIONS}, "the number nan"),
        ("measure", {"execution_summary": SUMMARY | {"p90": 0}, "conditions": CONDITIONS}, "execution_summary.p90"),
        ("measure", {"execution_summary": SUMMARY | {"all_inference_times": [[]]}, "conditions": CONDITIONS}, "times"),
        ("measure", {"execution_summary": SUMMARY, "conditions": {}}, "conditions.valid"),
        ("measure", {"execution_summary": SUMMARY, "conditions": CONDITIONS | {"emulated": True}}, "emulated host"),
        ("compare", {"numerics": {"sqnr_db": "high"}, "artifact": {}}, "numerics.sqnr_db"),
        ("evaluate", {"accuracy": {"metric": "top1", "samples": -1}}, "accuracy.samples"),
        ("convert", {}, "no output 'model'"),
    ],
)
def test_a_success_that_cannot_be_is_the_hosts_failure(
    farm: Farm, client: TestClient, kind: str, facts: dict[str, Any], told: str
) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)
    step, answer = claimed(farm, client, "pi-1", token, kind=kind)
    claim = answer.json()
    said = {"fencing_token": claim["fencing_token"], "state": "succeeded", "facts": facts, "isolation": "full"}

    ended = client.post(
        f"/v1/attempts/{claim['attempt']}/outcome",
        content=json.dumps(said | {"run_time_s": 1.0}),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )

    assert ended.status_code == 204, ended.text
    with farm.ledger.transaction() as session:
        attempt = session.get_one(Attempt, claim["attempt"])
        assert session.get_one(Step, step).phase == "ready", "it is tried again"
    assert attempt.state == "failed"
    assert attempt.failure is not None
    assert (attempt.failure["who_must_act"], told in attempt.failure["message"]) == ("host", True), attempt.failure


def test_a_valid_measurement_of_a_host_that_may_be_emulated_is_not_believed(farm: Farm, client: TestClient) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token, emulated=None)
    _, answer = claimed(farm, client, "pi-1", token, kind="measure")
    claim = answer.json()
    said = {"fencing_token": claim["fencing_token"], "state": "succeeded", "isolation": "full", "run_time_s": 1.0}
    facts = {"execution_summary": SUMMARY, "conditions": CONDITIONS}

    call(client, f"/attempts/{claim['attempt']}/outcome", said | {"facts": facts}, token=token)

    with farm.ledger.transaction() as session:
        failure = session.get_one(Attempt, claim["attempt"]).failure or {}
    assert failure["code"] == "bad-measurement"
    assert "may be emulated" in failure["message"]


def test_another_projects_users_reach_neither_a_host_nor_its_name(farm: Farm, client: TestClient) -> None:
    attest(client, "pi-1", enroll(client, "pi-1"))
    with farm.ledger.transaction() as session:
        add_token(session, "theirs", "user", project="other")

    calls = [
        call(client, "/hosts/pi-1/quarantine", {"reason": "out of spite"}, token="theirs"),
        call(client, "/hosts/pi-1/release", token="theirs"),
        call(client, "/hosts/pi-1/self-tests", token="theirs"),
        call(client, "/hosts/pi-1/revoke", token="theirs"),
    ]
    taken = call(client, "/hosts/enrolments", {"name": "pi-1"}, token="theirs")

    assert [answer.status_code for answer in calls] == [404] * 4
    assert (taken.status_code, taken.json()["detail"]) == (409, "The name pi-1 is taken by another project.")
    assert host_now(farm, "pi-1").quarantined is None


def break_steps(farm: Farm, host: str, count: int) -> None:
    with farm.ledger.transaction() as session:
        job = new_job(session, [planned(f"{host}-{number}") for number in range(count)])
        session.flush()
        for number in range(count):
            step = row_of(session, job, f"{host}-{number}")
            session.add(
                Attempt(
                    id=f"attempt-{host}-{number}",
                    step_id=step.id,
                    number=1,
                    host=host,
                    fencing_token="t",
                    state="lost",
                    lease_until=func.now(),
                    ended=func.now(),
                    failure=encode(HostLost(f"Host {host} went silent.").failure),
                )
            )


def test_a_host_that_breaks_steps_is_quarantined_where_a_peer_takes_its_work(farm: Farm, client: TestClient) -> None:
    for name in ("pi-1", "pi-2"):
        attest(client, name, enroll(client, name))
    break_steps(farm, "pi-1", 3), break_steps(farm, "pi-2", 2)

    farm.ledger.run(lambda session: quarantine_breakers(session, farm.config))

    assert host_now(farm, "pi-2").quarantined is None
    reason = host_now(farm, "pi-1").quarantine_reason or ""
    assert reason.startswith("3 steps broke on it within 60 minutes (the limit is 3), the last with host-lost")
    call(client, "/hosts/pi-1/release")
    farm.ledger.run(lambda session: quarantine_breakers(session, farm.config))
    assert host_now(farm, "pi-1").quarantined is None, "what was before its release is not held against it"


def test_a_host_without_a_peer_stays_and_its_operator_is_told(farm: Farm, client: TestClient) -> None:
    attest(client, "pi-1", enroll(client, "pi-1"), profile="x86-64-v4", serves=["target.x86-64-v4", "host.pi-1"])
    break_steps(farm, "pi-1", 3)

    farm.ledger.run(lambda session: quarantine_breakers(session, farm.config))

    assert host_now(farm, "pi-1").quarantined is None
    assert "It stays in rotation: no other live host serves its target." in (host_now(farm, "pi-1").notice or "")


def test_revoking_and_enrolling_again_launders_no_quarantine(farm: Farm, client: TestClient) -> None:
    attest(client, "pi-1", enroll(client, "pi-1"))
    call(client, "/hosts/pi-1/quarantine", {"reason": "it computes otherwise"})
    call(client, "/hosts/pi-1/revoke")
    assert host_now(farm, "pi-1").quarantine_reason == "it computes otherwise"

    fresh = enroll(client, "pi-1")

    assert attest(client, "pi-1", fresh).status_code == 204
    assert host_now(farm, "pi-1").quarantined is not None
    assert host_now(farm, "pi-1").quarantine_reason == "it computes otherwise"
    assert call(client, "/hosts/pi-1/release").status_code == 204
    assert host_now(farm, "pi-1").quarantined is None


class AnHourAhead(datetime):
    """The clock of an API that nobody set."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(hours=1)


def test_an_api_whose_clock_is_an_hour_ahead_finds_its_hosts_alive(
    farm: Farm, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("hosts", "host_views", "enrolments", "waiting"):
        monkeypatch.setattr(f"farm.ledger.{module}.datetime", AnHourAhead, raising=False)
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)
    client.headers["Authorization"] = "Bearer token"

    assert {view["state"] for view in client.get("/v1/hosts").json()} == {"live"}
    assert attest(client, "pi-1", token, instance="another").status_code == 409, "its name is in use"
    assert beat(client, "pi-1", token, clock_s=time.time()).json()["notice"] is not None
    assert "Its clock" not in (host_now(farm, "pi-1").notice or "")
    call(client, "/hosts/pi-1/release")
    released = host_now(farm, "pi-1").released
    assert released is not None
    assert abs((released - datetime.now(UTC)).total_seconds()) < 60, "what breaks from now on counts"


def test_other_projects_see_a_host_and_neither_its_models_nor_its_tests(farm: Farm, client: TestClient) -> None:
    token = enroll(client, "pi-1")
    attest(client, "pi-1", token)
    _, taken = claimed(farm, client, "pi-1", token)
    beat(client, "pi-1", token, running=[taken.json()["attempt"]])
    with farm.ledger.transaction() as session:
        add_token(session, "theirs", "user", project="other")

    def running(bearer: str) -> list[str]:
        views = client.get("/v1/hosts", headers={"Authorization": f"Bearer {bearer}"}).json()
        return next(view["running"] for view in views if view["name"] == "pi-1")

    assert running("token") == ["one"]
    assert running("theirs") == ["onnx-to-tflite · another project's"]
    answer = client.get("/v1/hosts/pi-1/self-tests", headers={"Authorization": "Bearer theirs"})
    assert answer.status_code == 404
