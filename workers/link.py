"""How a worker talks to the farm: claims, heartbeats, outputs, outcomes. Its only credential is the host's token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from farm.domain.errors import FarmBug, FarmError, FarmUnreachable
from farm.wire.base import FailureEntry, FileEntry
from farm.wire.hosts import (
    Attestation,
    Claim,
    ClaimRequest,
    DeclaredOutputs,
    Heartbeat,
    HeartbeatAnswer,
    HostSelf,
    Leave,
    Outcome,
)
from farm.wire.transfers import Part, PartRequest, PartTicket, UploadRequest, UploadTicket

A = TypeVar("A")
_TIMEOUT = httpx.Timeout(connect=5.0, read=60.0, write=30.0, pool=30.0)
_WHILE_THE_STORE_READS = httpx.Timeout(900.0)
"""Completing an upload reads it once: minutes for tens of GB."""
_TICKETS = TypeAdapter(list[UploadTicket])
_PART_TICKETS = TypeAdapter(list[PartTicket])


class FarmLink:
    """Calls of one host; safe between threads. Calls that must not get lost are repeated for `budget_s`."""

    def __init__(self, url: str, token: str, *, budget_s: float) -> None:
        self._budget_s = budget_s
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT)

    def attest(self, said: Attestation) -> None:
        self._patiently("/v1/hosts/attest", said)

    def who_am_i(self) -> HostSelf:
        """Ask what the token stands for, and where the broker is."""
        return _read(HostSelf.model_validate, self._call("GET", "/v1/hosts/self"))

    def leave(self, said: Leave) -> None:
        self._post("/v1/hosts/leave", said)

    def heartbeat(self, said: Heartbeat) -> HeartbeatAnswer:
        return _read(HeartbeatAnswer.model_validate, self._post("/v1/hosts/heartbeat", said))

    def claim(self, asked: ClaimRequest) -> Claim:
        """Claim an attempt.

        Raises:
            Conflict: it is stale; nothing is to be done.
        """
        return _read(Claim.model_validate, self._post("/v1/claims", asked))

    def finish(self, attempt: str, said: Outcome) -> None:
        """Report an outcome.

        Raises:
            Conflict: the lease was lost; somebody else has the step.
        """
        self._patiently(f"/v1/attempts/{attempt}/outcome", said)

    def declare_outputs(self, attempt: str, said: DeclaredOutputs) -> list[UploadTicket]:
        return _read(_TICKETS.validate_python, self._patiently(f"/v1/attempts/{attempt}/outputs", said))

    def part_tickets(self, upload: str, asked: Sequence[PartRequest]) -> list[PartTicket]:
        body = [part.model_dump(mode="json") for part in asked]
        return _read(_PART_TICKETS.validate_python, self._send(f"/v1/uploads/{upload}/parts", body))

    def record_part(self, upload: str, part: Part) -> None:
        self._post(f"/v1/uploads/{upload}/recorded", part)

    def complete_upload(self, upload: str) -> None:
        self._send(f"/v1/uploads/{upload}/complete", None, timeout=_WHILE_THE_STORE_READS)

    def close(self) -> None:
        self._http.close()

    def _patiently(self, path: str, said: BaseModel) -> Any:
        """Repeat a call while the farm is out of reach; every such call may safely come twice."""
        retrying = Retrying(
            retry=retry_if_exception_type(FarmUnreachable),
            stop=stop_after_delay(self._budget_s),
            wait=wait_exponential_jitter(multiplier=0.1, max=3.0),
            reraise=True,
        )
        return retrying(self._post, path, said)

    def _post(self, path: str, said: BaseModel) -> Any:
        return self._send(path, said.model_dump(mode="json"))

    def _send(self, path: str, body: Any, timeout: httpx.Timeout = _TIMEOUT) -> Any:
        """Send one call.

        Raises:
            FarmUnreachable: no answer, or one that is not the farm's.
            FarmBug: what is said is no JSON.
            FarmError: what the farm answers instead.
        """
        return self._call("POST", path, body, timeout)

    def _call(self, method: str, path: str, body: Any = None, timeout: httpx.Timeout = _TIMEOUT) -> Any:
        try:
            response = self._http.request(method, path, json=body, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise FarmUnreachable(f"The farm at {self._http.base_url} does not answer: {exc}") from exc
        except (TypeError, ValueError) as exc:
            raise FarmBug(f"What is said at {path} is no JSON: {exc}") from exc
        if not response.is_success:
            raise _error_of(response)
        try:
            return response.json() if response.content else None
        except ValueError as exc:
            raise FarmUnreachable(
                f"What answers at {self._http.base_url} is no farm: its answer at {path} is no JSON.",
                remedy="See that FARM_URL names the farm's API and no proxy answers in its place.",
            ) from exc


class AttemptTickets:
    """The upload tickets of one attempt's outputs (farm.transfer.Tickets)."""

    def __init__(self, link: FarmLink, claim: Claim) -> None:
        self._link, self._claim = link, claim

    def declare(self, request: UploadRequest) -> UploadTicket:
        entry = FileEntry(name=request.sha256, sha256=request.sha256, size_bytes=request.size_bytes)
        said = DeclaredOutputs(fencing_token=self._claim.fencing_token, files=[entry], broken_put=request.broken_put)
        (ticket,) = self._link.declare_outputs(self._claim.attempt, said)
        return ticket

    def parts(self, upload: str, requests: Sequence[PartRequest]) -> list[PartTicket]:
        return self._link.part_tickets(upload, requests)

    def record(self, upload: str, part: Part) -> None:
        self._link.record_part(upload, part)

    def complete(self, upload: str) -> None:
        self._link.complete_upload(upload)


def _read(read: Callable[[Any], A], told: Any) -> A:
    """Read an answer.

    Raises:
        FarmBug: it is not of the shape that was agreed.
    """
    try:
        return read(told)
    except ValueError as exc:
        raise FarmBug(
            f"The farm's answer can't be read: {str(exc)[:500]}",
            remedy="Bring the host and the farm to the same version.",
        ) from exc


def _error_of(response: httpx.Response) -> FarmError:
    """Rebuild the error that a problem document tells of; a server in trouble counts as unreachable."""
    try:
        told = response.json()
        error = FailureEntry.model_validate({name: told.get(name) for name in FailureEntry.model_fields}).error()
    except ValueError:
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            return FarmUnreachable(f"The farm answers {response.status_code} at {response.request.url.path}.")
        return FarmBug(f"The farm answers {response.status_code} without a reason at {response.request.url.path}.")
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and not isinstance(error, FarmUnreachable):
        return FarmUnreachable(error.message)
    return error
