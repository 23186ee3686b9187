"""Errors as RFC 9457 problem documents; one table from codes to HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from farm.domain.codec import encode
from farm.domain.errors import (
    Actor,
    BadRequest,
    ConfigurationError,
    Conflict,
    FarmBug,
    FarmError,
    FarmUnreachable,
    HostError,
    JobCancelled,
    NotFound,
    RequestError,
    TooLarge,
    ToolchainError,
    Unauthorized,
)

log = structlog.get_logger()
STATUS: dict[type[FarmError], int] = {
    Unauthorized: 401,
    NotFound: 404,
    Conflict: 409,
    JobCancelled: 409,
    TooLarge: 413,
    RequestError: 422,
    ToolchainError: 422,
    FarmUnreachable: 503,
    HostError: 503,
    ConfigurationError: 503,
    FarmBug: 500,
    FarmError: 500,
}
"""The first class of an error's ancestry that stands here decides."""
MEDIA_TYPE = "application/problem+json"
MOST_SAID = 80
"""Characters of a wrong value that are repeated."""


class Refused(Exception):
    """Several reasons at once against one request."""

    def __init__(self, errors: Sequence[FarmError]) -> None:
        super().__init__(errors[0].message)
        self.errors = tuple(errors)


def status_of(error: FarmError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    errors: Sequence[FarmError], *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Answer with the first error, and all of them as `reasons`; `status` is the first one's unless given."""
    first = errors[0]
    told: dict[str, Any] = {
        "type": f"urn:edge-model-farm:{first.code}",
        "title": first.code.replace("-", " "),
        "status": status or status_of(first),
        "detail": first.message,
        **encode(first.failure),
        "reasons": [encode(error.failure) for error in errors],
    }
    return JSONResponse(told, status_code=told["status"], media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Have every failure of a route answered as a problem document."""
    app.add_exception_handler(FarmError, _farm_error)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.add_exception_handler(Exception, _bug)


async def _farm_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, FarmError):
        raise error
    return problem([error])


async def _refused(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Refused):
        raise error
    return problem(error.errors)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Name every field that is wrong, and why."""
    if not isinstance(error, RequestValidationError):
        raise error
    wrong = [
        BadRequest(f"{'.'.join(str(part) for part in e['loc'][1:])}: {e['msg']}{_not(e)}.") for e in error.errors()
    ]
    return problem(wrong or [BadRequest("The request can't be read.")])


def _not(error: Mapping[str, Any]) -> str:
    """Repeat a short value that is wrong."""
    given = error.get("input")
    return f", not {str(given)[:MOST_SAID]!a}" if isinstance(given, str | int | float) else ""


async def _no_such_route(request: Request, error: Exception) -> JSONResponse:
    """Answer a path or a method that the farm does not have; status and headers stay the framework's."""
    if not isinstance(error, HTTPException):
        raise error
    kind = NotFound if error.status_code == HTTPStatus.NOT_FOUND else BadRequest
    return problem(
        [kind(f"{request.method} {request.url.path}: {error.detail}.")],
        status=error.status_code,
        headers=error.headers,
    )


async def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("A route failed in a way nobody foresaw.", action=request.url.path, actor=Actor.US.value, exc_info=error)
    return problem([FarmBug(f"The farm failed at {request.url.path}: {type(error).__name__}.")])
