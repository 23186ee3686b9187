"""What the API answers to requests that are wrong, on real services: a problem document, never a bare 500."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from farm.api.app import create_app
from farm.domain.errors import FarmUnreachable
from farm.ledger import Ledger
from farm.ledger.access import add_token
from farm.local import StackInfo, services
from farm.settings import Settings

BYTES = os.urandom(100)
SHA256 = hashlib.sha256(BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class Api:
    """An API in this process, and a user's calls to it."""

    info: StackInfo
    client: TestClient

    def post(self, path: str, body: Any) -> httpx.Response:
        answer: httpx.Response = self.client.post(f"/v1{path}", json=body)
        return answer


def config_of(info: StackInfo, **changes: Any) -> Settings:
    return Settings(
        database_url=SecretStr(info.database),
        redis_url=SecretStr(info.redis),
        s3_endpoint=info.s3.endpoint,
        s3_access_key=SecretStr(info.s3.access_key),
        s3_secret_key=SecretStr(info.s3.secret_key),
        **changes,
    )


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with services() as info:
        ledger = Ledger(info.database)
        ledger.migrate()
        ledger.run(lambda session: add_token(session, "token", "user"))
        ledger.close()
        app = create_app(config_of(info, single_put_limit_bytes=5 << 20, part_size_bytes=5 << 20))
        with TestClient(app, raise_server_exceptions=False, headers={"Authorization": "Bearer token"}) as client:
            yield Api(info, client)


def job(name: str = "m.onnx") -> dict[str, Any]:
    artifact = {"files": [{"name": name, "sha256": SHA256, "size_bytes": 100}]}
    return {"models": [{"artifact": artifact, "file_name": "m.onnx"}], "targets": ["x86-64-v3"]}


def test_a_name_that_climbs_is_refused(api: Api) -> None:
    answer = api.post("/jobs", job("../../x.onnx"))

    assert answer.status_code == 422
    assert answer.json()["code"] == "unsafe-model"
    assert "'../../x.onnx'" in answer.json()["detail"]


def test_text_that_no_ledger_holds_is_refused(api: Api) -> None:
    for name in ("a\\u0000b", "a\\ud800b"):
        body = json.dumps(job() | {"name": "NAME"}).replace("NAME", name)
        answer = api.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})

        assert answer.status_code == 422
        assert "surrogate" in answer.json()["detail"]


def test_a_value_that_does_not_fit_is_repeated(api: Api) -> None:
    for name, shown in (("pi 1", "'pi 1'"), ("x" * 200, "x" * 80)):
        answer = api.post("/hosts/enrolments", {"name": name, "profile": "auto"})

        assert (answer.status_code, answer.json()["code"]) == (422, "bad-request")
        assert answer.json()["detail"].startswith("name: String should match pattern")
        assert shown in answer.json()["detail"]


def test_a_path_or_method_that_is_not_there_is_a_problem(api: Api) -> None:
    for answer, status in ((api.client.get("/v1/nothing"), 404), (api.client.delete("/v1/health"), 405)):
        assert answer.status_code == status == answer.json()["status"]
        assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == "GET"


def test_health_names_the_part_that_does_not_answer_and_no_more(api: Api) -> None:
    config = config_of(api.info).model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})

    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        answer = client.get("/v1/health")

    assert answer.status_code == 503
    assert answer.json()["parts"] == {"ledger": "ok", "queue": "does not answer", "store": "ok"}


def test_a_ledger_without_a_free_connection_is_unreachable(api: Api) -> None:
    ledger = Ledger(api.info.database, pool_size=1)
    ledger.engine = create_engine(api.info.database, pool_size=1, max_overflow=0, pool_timeout=0.1)
    ledger._sessions.configure(bind=ledger.engine)

    with ledger.transaction() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(FarmUnreachable, match="in use"):
            ledger.ping()
    ledger.engine.dispose()
