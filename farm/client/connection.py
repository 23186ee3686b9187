"""HTTP with the farm: problems become the errors they describe, and a farm that restarts is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import ValidationError

from farm import __version__
from farm.client.address import Address
from farm.domain.errors import FarmError, FarmUnreachable, NotFound, Unauthorized
from farm.wire.base import FailureEntry

CONNECT_WITHIN_S = 5.0
RESTARTING = (502, 503, 504)
_BY_STATUS: dict[int, type[FarmError]] = {401: Unauthorized, 403: Unauthorized, 404: NotFound}
_FAILURE_FIELDS = ("code", "message", "who_must_act", "retryable", "remedy", "evidence")


class Connection:
    """A session with one farm.

    Args:
        patience_s: how long a farm that has answered before may be out of reach before that is an error.
    """

    def __init__(
        self,
        address: Address,
        *,
        patience_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self.patience_s = patience_s
        self.sleep = sleep
        self._has_answered = False
        headers = {"User-Agent": f"farm/{__version__}"}
        if address.token:
            headers["Authorization"] = f"Bearer {address.token}"
        self._http = httpx.Client(
            base_url=address.url,
            headers=headers,
            timeout=httpx.Timeout(30.0, connect=CONNECT_WITHIN_S),
            verify=_reads_certificates(address.url),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        given = {name: value for name, value in params.items() if value is not None}
        return self._call("GET", path, params=given)

    def post(self, path: str, body: Any = None, *, key: str | None = None, timeout_s: float = 30.0) -> Any:
        """Send a JSON value; `key` makes a repetition harmless (Idempotency-Key)."""
        headers = {"Idempotency-Key": key} if key else {}
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_WITHIN_S)
        return self._call("POST", path, json=body, headers=headers, timeout=timeout)

    @contextmanager
    def stream(self, path: str, *, headers: dict[str, str], read_timeout_s: float) -> Iterator[httpx.Response]:
        """Open a stream; nothing is retried here.

        Raises:
            FarmUnreachable: the connection can't be made, or breaks.
        """
        timeout = httpx.Timeout(read_timeout_s, connect=CONNECT_WITHIN_S)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise problem(response)
                yield response
        except httpx.TransportError as exc:
            raise self._unreachable(exc) from exc

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        response = self._send(method, path, **arguments)
        if response.is_error:
            raise problem(response)
        return response.json() if response.content else None

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        deadline, pause_s = time.monotonic() + self.patience_s, 0.2
        while True:
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.TransportError as exc:
                if not self._has_answered or time.monotonic() + pause_s > deadline:
                    raise self._unreachable(exc) from exc
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
                raise self._unreachable(exc) from exc
            else:
                if not _may_recover(response) or time.monotonic() + pause_s > deadline:
                    self._has_answered = True
                    return response
            self.sleep(pause_s)
            pause_s = min(pause_s * 1.6, 3.0)

    def _unreachable(self, exc: Exception) -> FarmUnreachable:
        reason = str(exc) or type(exc).__name__
        return FarmUnreachable(
            f"The farm at {self.address.url} (from {self.address.source}) can't be reached: {reason.rstrip('.')}."
        )


def _reads_certificates(url: str) -> bool:
    """Spare plain HTTP the reading of the certificate store, which takes longer than most calls."""
    return not url.startswith("http://")


def _may_recover(response: httpx.Response) -> bool:
    """Tell a farm, or the proxy before it, that is about to be back from one that says no."""
    if response.status_code not in RESTARTING:
        return False
    try:
        body = response.json()
    except ValueError:
        return True
    return not isinstance(body, dict) or body.get("retryable", True) is True


def problem(response: httpx.Response) -> FarmError:
    """Rebuild the error that a problem+json answer describes; `reasons` come along as evidence."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return _foreign(response)
    try:
        fields = {name: body[name] for name in _FAILURE_FIELDS if name in body}
        error = FailureEntry.model_validate({"message": body.get("detail"), "retryable": False, **fields}).error()
    except ValidationError:
        return _foreign(response, detail=body.get("detail"))
    if body.get("reasons"):
        error.evidence["reasons"] = body["reasons"]
    return error


def _foreign(response: httpx.Response, *, detail: Any = None) -> FarmError:
    said = f": {detail}" if isinstance(detail, str) else ""
    message = f"{response.request.url} answered {response.status_code} {response.reason_phrase}{said}."
    kind = _BY_STATUS.get(response.status_code, FarmUnreachable)
    remedy = "Check that FARM_URL points to a farm of this version." if kind is FarmUnreachable else None
    return kind(message, remedy=remedy)
