"""Every foreign error of the transfer's and the store's libraries has its place in the farm's tree."""

from __future__ import annotations

import errno
import inspect
from typing import Any

import botocore.exceptions
import httpx
import pytest
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from farm.domain.errors import (
    ConfigurationError,
    Conflict,
    DigestMismatch,
    FarmBug,
    FarmError,
    HostError,
    HostFull,
    NotFound,
    TransferFailed,
)
from farm.store import errors as store_errors
from farm.transfer import errors as transfer_errors


def classes_of(module: Any) -> list[type[Exception]]:
    found = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, Exception)]
    return [c for c in found if not issubclass(c, Warning)]


@pytest.mark.parametrize("foreign", classes_of(botocore.exceptions))
def test_every_botocore_error_is_in_the_table(foreign: type[Exception]) -> None:
    if foreign.__module__ != "botocore.exceptions" or not issubclass(foreign, BotoCoreError):
        return
    ancestors = {c.__name__ for c in foreign.__mro__} - {"BotoCoreError"}
    assert foreign is BotoCoreError or ancestors & set(store_errors.BY_CLASS), f"{foreign.__name__} has no row"


def test_every_row_names_a_botocore_error() -> None:
    assert all(hasattr(botocore.exceptions, name) for name in store_errors.BY_CLASS)


@pytest.mark.parametrize("foreign", classes_of(httpx))
def test_every_httpx_error_is_in_the_table(foreign: type[Exception]) -> None:
    kind = transfer_errors.kind_of(foreign)
    assert kind.retryable == (
        issubclass(foreign, (httpx.TransportError, httpx.DecodingError)) and kind is TransferFailed
    )


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SignatureDoesNotMatch", 403, ConfigurationError),
        ("InvalidAccessKeyId", 403, ConfigurationError),
        ("NoSuchKey", 404, NotFound),
        ("PreconditionFailed", 412, Conflict),
        ("BadDigest", 400, DigestMismatch),
        ("SlowDown", 503, TransferFailed),
        ("NeverHeardOf", 502, TransferFailed),
        ("NeverHeardOf", 400, FarmBug),
    ],
)
def test_s3_answers_are_mapped(code: str, status: int, kind: type[FarmError]) -> None:
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(kind, match=code) as caught, store_errors.foreign_errors("blob x"):
        raise ClientError(response, "GetObject")
    assert type(caught.value) is kind


def test_a_store_out_of_reach_is_worth_a_retry() -> None:
    with pytest.raises(TransferFailed) as caught, store_errors.foreign_errors("blob x"):
        raise EndpointConnectionError(endpoint_url="http://store")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, HostFull), (errno.EDQUOT, HostFull), (errno.EFBIG, HostFull), (errno.EXDEV, HostError)],
)
def test_operating_system_errors_are_mapped(number: int, kind: type[FarmError]) -> None:
    with pytest.raises(kind) as caught, transfer_errors.foreign_errors("model.onnx can't be written"):
        raise OSError(number, "said the kernel", "/data/x")
    assert type(caught.value) is kind
    assert "said the kernel" in caught.value.message


def test_a_timeout_of_the_socket_is_worth_a_retry() -> None:
    with pytest.raises(TransferFailed), transfer_errors.foreign_errors("model.onnx"):
        raise TimeoutError("timed out")


def test_a_refusal_says_whether_a_new_url_would_help() -> None:
    xml = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    expired = transfer_errors.refusal(httpx.Response(403, text=xml), "model.onnx")
    assert isinstance(expired, TransferFailed)
    assert expired.evidence["expired"]
    clocks = transfer_errors.refusal(httpx.Response(403, text=xml.replace("AccessDenied", "RequestTimeTooSkewed")), "m")
    assert isinstance(clocks, ConfigurationError)
    assert "clocks" in clocks.message
