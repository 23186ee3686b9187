"""Uploads by the API on real services: bounded by their declaration, and never in the way of the next try."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import httpx
import pytest

from farm.ledger import Ledger
from farm.ledger.access import add_token
from tests.integration.test_api_refusals import Api, api

__all__ = ["api"]
PART_BYTES = 5 << 20


def declare(api: Api, content: bytes, size_bytes: int) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    answer = api.post("/uploads", {"sha256": digest, "size_bytes": size_bytes, "broken_put": True})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def sign(api: Api, upload: str, number: int, content: bytes, size_bytes: int) -> httpx.Response:
    checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return api.post(
        f"/uploads/{upload}/parts", [{"number": number, "sha256_base64": checksum, "size_bytes": size_bytes}]
    )


def test_a_file_whose_bytes_were_wrong_can_be_declared_again(api: Api) -> None:
    content, wrong = os.urandom(100), os.urandom(100)
    first = declare(api, content, 100)
    (ticket,) = sign(api, first["upload"], 1, wrong, 100).json()
    sent = httpx.put(ticket["url"], content=wrong, headers=ticket["headers"]).raise_for_status()
    receipt = f"{sent.headers['etag']};{base64.b64encode(hashlib.sha256(wrong).digest()).decode()}"
    api.post(f"/uploads/{first['upload']}/recorded", {"number": 1, "etag": receipt}).raise_for_status()

    answer = api.client.post(f"/v1/uploads/{first['upload']}/complete")

    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    again = declare(api, content, 100)
    assert again["upload"] != first["upload"]
    assert again["done_parts"] == []


@pytest.mark.parametrize(
    ("number", "size_bytes", "status"),
    [(1, PART_BYTES, 200), (2, 7, 200), (2, 8, 422), (1, PART_BYTES + 1, 422), (1, 7, 422), (3, 7, 422)],
)
def test_a_part_is_as_large_as_the_declaration_says(api: Api, number: int, size_bytes: int, status: int) -> None:
    ticket = declare(api, b"declared", PART_BYTES + 7)

    answer = sign(api, ticket["upload"], number, b"x", size_bytes)

    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == "bad-request"


def test_who_knows_a_digest_of_another_project_does_not_have_the_bytes(api: Api) -> None:
    """Given a file that one project stored; then another one that declares its digest has to send it all the same."""
    content = os.urandom(100)
    digest = hashlib.sha256(content).hexdigest()
    ticket = api.post("/uploads", {"sha256": digest, "size_bytes": 100}).json()
    httpx.put(ticket["url"], content=content, headers=ticket["headers"]).raise_for_status()
    model = {"artifact": {"files": [{"name": "m.onnx", "sha256": digest, "size_bytes": 100}]}, "file_name": "m.onnx"}
    assert api.post("/models", model).json()["code"] != "missing-file"
    ledger = Ledger(api.info.database)
    ledger.run(lambda session: add_token(session, "stranger", "user", project="other"))
    ledger.close()
    stranger = {"Authorization": "Bearer stranger"}

    taken = api.client.post("/v1/models", json=model, headers=stranger)
    asked = api.client.post("/v1/uploads", json={"sha256": digest, "size_bytes": 100}, headers=stranger).json()

    assert (taken.status_code, taken.json()["code"]) == (422, "missing-file")
    assert asked["method"] == "put"
    httpx.put(asked["url"], content=content, headers=asked["headers"]).raise_for_status()
    assert api.client.post("/v1/models", json=model, headers=stranger).json()["code"] != "missing-file"
