"""The API's side of an upload, as farm.transfer asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm.client.connection import Connection
from farm.wire.transfers import Part, PartRequest, PartTicket, UploadRequest, UploadTicket

COMPLETE_WITHIN_S = 1800.0
"""The farm reads a whole large file once before it counts."""


@dataclass(frozen=True, slots=True)
class Tickets:
    """Asks the API for presigned URLs, and tells it what the store has acknowledged."""

    connection: Connection

    def declare(self, request: UploadRequest) -> UploadTicket:
        return UploadTicket.model_validate(self.connection.post("/v1/uploads", request.model_dump(mode="json")))

    def parts(self, upload: str, requests: Sequence[PartRequest]) -> list[PartTicket]:
        body = [request.model_dump(mode="json") for request in requests]
        answer = self.connection.post(f"/v1/uploads/{upload}/parts", body)
        return [PartTicket.model_validate(ticket) for ticket in answer]

    def record(self, upload: str, part: Part) -> None:
        self.connection.post(f"/v1/uploads/{upload}/recorded", part.model_dump(mode="json"))

    def complete(self, upload: str) -> None:
        self.connection.post(f"/v1/uploads/{upload}/complete", timeout_s=COMPLETE_WITHIN_S)
