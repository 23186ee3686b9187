"""What a client may do about hosts: enroll, revoke, take out of rotation and put back, have them test themselves."""

from __future__ import annotations

from urllib.parse import quote

from farm.client.connection import Connection
from farm.wire.hosts import Enrolment, SelfTestView


class Hosts:
    """The hosts of a farm; every method raises NotFound for one that never joined."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def enroll(self, name: str, profile: str = "auto") -> Enrolment:
        """Make a place for a host; its token is in the answer and is not shown again."""
        asked = {"name": name, "profile": profile}
        return Enrolment.model_validate(self._connection.post("/v1/hosts/enrolments", asked))

    def revoke(self, name: str) -> None:
        self._connection.post(self._path(name, "revoke"))

    def quarantine(self, name: str, reason: str) -> None:
        self._connection.post(self._path(name, "quarantine"), {"reason": reason})

    def release(self, name: str) -> None:
        self._connection.post(self._path(name, "release"))

    def self_test(self, name: str) -> list[SelfTestView]:
        """Have a host test itself, under each runtime it has; returns at once."""
        return [SelfTestView.model_validate(one) for one in self._connection.post(self._path(name, "self-tests"))]

    def self_tests(self, name: str, limit: int = 30) -> list[SelfTestView]:
        """List a host's self-tests, newest first."""
        answer = self._connection.get(self._path(name, "self-tests"), limit=limit)
        return [SelfTestView.model_validate(one) for one in answer]

    @staticmethod
    def _path(name: str, what: str) -> str:
        return f"/v1/hosts/{quote(name, safe='')}/{what}"
