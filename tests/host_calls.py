"""What the tests of hosts share: an API over an empty ledger, and what a worker or an operator asks of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from farm.api.app import create_app
from farm.ledger import steps
from farm.ledger.tables import Host
from tests.control_fixtures import QUEUE, Farm, new_job, planned, row_of

PROFILE = "x86-64-v3"


@pytest.fixture
def client(farm: Farm) -> Iterator[TestClient]:
    with TestClient(create_app(farm.config), raise_server_exceptions=False) as made:
        yield made


def call(client: TestClient, path: str, body: Any = None, *, token: str = "token") -> httpx.Response:
    answer: httpx.Response = client.post(f"/v1{path}", json=body, headers={"Authorization": f"Bearer {token}"})
    return answer


def enroll(client: TestClient, name: str, profile: str = "auto") -> str:
    answer = call(client, "/hosts/enrolments", {"name": name, "profile": profile})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def attest(client: TestClient, name: str, token: str, **changes: Any) -> httpx.Response:
    said = {
        **{"name": name, "profile": PROFILE, "can_measure": True, "architecture": "x86_64", "emulated": False},
        **{"isolation": "full", "environments": {"builder": "lock", "onnxruntime": "lock"}, "instance": f"i-{name}"},
        **{"serves": [QUEUE, f"target.{PROFILE}", f"host.{name}"]},
    }
    return call(client, "/hosts/attest", said | changes, token=token)


def beat(client: TestClient, name: str, token: str, **changes: Any) -> httpx.Response:
    return call(client, "/hosts/heartbeat", {"name": name, "instance": f"i-{name}", **changes}, token=token)


def host_now(farm: Farm, name: str) -> Host:
    with farm.ledger.transaction() as session:
        return session.get_one(Host, name)


def claimed(
    farm: Farm, client: TestClient, name: str, token: str, *, kind: str = "convert"
) -> tuple[str, httpx.Response]:
    """Have a step that is ready, and let a host claim it."""
    with farm.ledger.transaction() as session:
        job = new_job(session, [replace(planned("one"), kind=kind)])
        session.flush()
        step = row_of(session, job, "one").id
        steps.dispatch(session, [step])
    return step, call(client, "/claims", {"host": name, "step": step, "attempt": 1}, token=token)


def fail_full(client: TestClient, claim: dict[str, Any], token: str) -> None:
    failure = {"code": "host-full", "message": "No space left.", "who_must_act": "host", "retryable": True}
    said = {"fencing_token": claim["fencing_token"], "state": "failed", "run_time_s": 0.1, "failure": failure}
    said |= {"isolation": "full"}
    answer = call(client, f"/attempts/{claim['attempt']}/outcome", said, token=token)
    assert answer.status_code == 204, answer.text
