"""What httpx, the store's answers and the file system say, as the farm's errors.

Source: httpx exceptions (0.28); Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from farm.domain.errors import (
    BadRequest,
    ConfigurationError,
    DigestMismatch,
    FarmBug,
    FarmError,
    HostError,
    HostFull,
    MissingFile,
    NotFound,
    TransferFailed,
)

BY_CLASS: dict[type[Exception], type[FarmError]] = {
    httpx.HTTPError: FarmBug,
    httpx.RequestError: FarmBug,
    httpx.TransportError: TransferFailed,
    httpx.UnsupportedProtocol: ConfigurationError,
    httpx.DecodingError: TransferFailed,
    httpx.TooManyRedirects: ConfigurationError,
    httpx.InvalidURL: ConfigurationError,
    httpx.CookieConflict: FarmBug,
    httpx.StreamError: FarmBug,
}
"""The nearest class by inheritance decides."""

BY_ERRNO: dict[int, type[FarmError]] = {
    errno.ENOSPC: HostFull,
    errno.EDQUOT: HostFull,
    errno.EFBIG: HostFull,
    errno.ENOENT: MissingFile,
    errno.EISDIR: BadRequest,
    errno.ENOTDIR: BadRequest,
    errno.ENAMETOOLONG: BadRequest,
    errno.ELOOP: BadRequest,
    errno.EEXIST: BadRequest,
    errno.EACCES: HostError,
    errno.EPERM: HostError,
    errno.EROFS: HostError,
    errno.EIO: HostError,
    errno.ECONNRESET: TransferFailed,
    errno.EPIPE: TransferFailed,
    errno.ETIMEDOUT: TransferFailed,
}

BY_CODE: dict[str, type[FarmError]] = {
    "BadDigest": DigestMismatch,
    "InvalidDigest": DigestMismatch,
    "XAmzContentSHA256Mismatch": DigestMismatch,
    "XAmzContentChecksumMismatch": DigestMismatch,
    "SignatureDoesNotMatch": ConfigurationError,
    "RequestTimeTooSkewed": ConfigurationError,
    "InvalidAccessKeyId": ConfigurationError,
    "NoSuchBucket": ConfigurationError,
    "IncompleteBody": TransferFailed,
    "RequestTimeout": TransferFailed,
}

BY_STATUS: dict[int, type[FarmError]] = {
    403: TransferFailed,
    404: NotFound,
    408: TransferFailed,
    416: DigestMismatch,
    429: TransferFailed,
}

_MEANING: dict[type[FarmError], str] = {
    ConfigurationError: "the clocks disagree, or the store is not reached by the name its URLs are signed for "
    "(FARM_S3_PUBLIC_ENDPOINT)",
    DigestMismatch: "the bytes differ from what was declared; the file may have changed meanwhile",
    NotFound: "it is not in the store",
}


@contextmanager
def foreign_errors(subject: str) -> Iterator[None]:
    """Raise foreign errors as the farm's own about `subject`.

    Raises:
        FarmError: the class that the tables name.
    """
    try:
        yield
    except OSError as exc:
        kind = BY_ERRNO.get(
            exc.errno or 0, TransferFailed if isinstance(exc, (TimeoutError, ConnectionError)) else HostError
        )
        raise kind(f"{subject}: {exc.strerror or exc} ({exc.filename or 'the connection'}).") from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError) as exc:
        raise kind_of(type(exc))(f"{subject}: {exc or type(exc).__name__}.") from exc


def kind_of(foreign: type[Exception]) -> type[FarmError]:
    """Look an exception class up by inheritance, nearest first."""
    return next(BY_CLASS[c] for c in foreign.__mro__ if c in BY_CLASS)


def refusal(response: httpx.Response, subject: str) -> FarmError:
    """Read the error that the store answered with; `expired` is in its evidence when a new URL would help."""
    text = response.read()[:4096].decode("utf-8", "replace")
    code, said = _element("Code", text), _element("Message", text)
    status = response.status_code
    kind = BY_CODE.get(code) or BY_STATUS.get(status) or (TransferFailed if status >= 500 else FarmBug)
    meaning = f": {_MEANING[kind]}" if kind in _MEANING else ""
    expired = status == 403 and kind is TransferFailed
    return kind(
        f"The store refused {subject} ({code or 'no code'}, {said or 'no message'}, HTTP {status}){meaning}.",
        expired=expired,
    )


def _element(name: str, xml: str) -> str:
    found = re.search(f"<{name}>([^<]*)</{name}>", xml)
    return found.group(1) if found else ""
