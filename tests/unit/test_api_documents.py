"""The API's own documents, on a network from which nothing else is reached."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from farm.api.app import create_app
from farm.settings import Settings


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A client of an API whose parts nobody asks: documents need neither ledger nor store."""
    keys = {"s3_access_key": SecretStr("key"), "s3_secret_key": SecretStr("secret")}
    return TestClient(create_app(Settings(**keys)))


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")

    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert any(each.endswith("swagger-ui-bundle.js") for each in loaded)
    for each in loaded:
        assert each.startswith("/"), each
        assert len(client.get(each).content) > 1000, each


def test_the_page_shows_the_routes_of_this_version(client: TestClient) -> None:
    assert "url: '/openapi.json'" in client.get("/docs").text
    assert "/v1/jobs" in client.get("/openapi.json").json()["paths"]


def test_every_operation_has_a_name_of_its_own(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    named = [operation["operationId"] for methods in paths.values() for operation in methods.values()]

    assert "jobs_show" in named
    assert sorted(named) == sorted(set(named))
