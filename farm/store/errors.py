"""botocore's errors as the farm's: one table by exception class, one by S3 error code.

Source: botocore.exceptions (1.44); Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.domain.errors import (
    BadRequest,
    ConfigurationError,
    Conflict,
    DigestMismatch,
    FarmBug,
    FarmError,
    NotFound,
    TooLarge,
    TransferFailed,
)

BY_CLASS: dict[str, type[FarmError]] = {
    "HTTPClientError": TransferFailed,
    "ConnectionError": TransferFailed,
    "IncompleteReadError": TransferFailed,
    "CapacityNotAvailableError": TransferFailed,
    "WaiterError": TransferFailed,
    "MetadataRetrievalError": TransferFailed,
    "ChecksumError": DigestMismatch,
    "FlexibleChecksumError": DigestMismatch,
    "NoCredentialsError": ConfigurationError,
    "NoAuthTokenError": ConfigurationError,
    "TokenRetrievalError": ConfigurationError,
    "UnknownTokenProviderError": ConfigurationError,
    "PartialCredentialsError": ConfigurationError,
    "CredentialRetrievalError": ConfigurationError,
    "UnknownCredentialError": ConfigurationError,
    "RefreshWithMFAUnsupportedError": ConfigurationError,
    "SSOError": ConfigurationError,
    "LoginError": ConfigurationError,
    "ProfileNotFound": ConfigurationError,
    "ConfigParseError": ConfigurationError,
    "ConfigNotFound": ConfigurationError,
    "InvalidConfigError": ConfigurationError,
    "InvalidRetryConfigurationError": ConfigurationError,
    "InvalidProxiesConfigError": ConfigurationError,
    "InvalidDefaultsMode": ConfigurationError,
    "InvalidChecksumConfigError": ConfigurationError,
    "InvalidEndpointConfigurationError": ConfigurationError,
    "InvalidEndpointDiscoveryConfigurationError": ConfigurationError,
    "InvalidIMDSEndpointError": ConfigurationError,
    "InvalidIMDSEndpointModeError": ConfigurationError,
    "InvalidS3UsEast1RegionalEndpointConfigError": ConfigurationError,
    "InvalidSTSRegionalEndpointsConfigError": ConfigurationError,
    "InvalidS3AddressingStyleError": ConfigurationError,
    "InvalidDNSNameError": ConfigurationError,
    "InvalidHostLabelError": ConfigurationError,
    "InvalidRegionError": ConfigurationError,
    "BaseEndpointResolverError": ConfigurationError,
    "EndpointProviderError": ConfigurationError,
    "UnknownRegionError": ConfigurationError,
    "ServiceNotInRegionError": ConfigurationError,
    "UnknownSignatureVersionError": ConfigurationError,
    "UnsupportedSignatureVersionError": ConfigurationError,
    "UnsupportedS3ArnError": ConfigurationError,
    "UnsupportedS3ControlArnError": ConfigurationError,
    "UnsupportedOutpostResourceError": ConfigurationError,
    "UnsupportedS3ConfigurationError": ConfigurationError,
    "UnsupportedS3AccesspointConfigurationError": ConfigurationError,
    "UnsupportedS3ControlConfigurationError": ConfigurationError,
    "UnsupportedServiceProtocolsError": ConfigurationError,
    "MD5UnavailableError": ConfigurationError,
    "MissingDependencyException": ConfigurationError,
    "DataNotFoundError": FarmBug,
    "ApiVersionNotFoundError": FarmBug,
    "MissingParametersError": FarmBug,
    "ValidationError": FarmBug,
    "ParamValidationError": FarmBug,
    "UnknownServiceStyle": FarmBug,
    "PaginationError": FarmBug,
    "OperationNotPageableError": FarmBug,
    "UnseekableStreamError": FarmBug,
    "InvalidExpressionError": FarmBug,
    "WaiterConfigError": FarmBug,
    "UnknownClientMethodError": FarmBug,
    "StubResponseError": FarmBug,
    "AwsChunkedWrapperError": FarmBug,
}
"""The nearest class by inheritance decides."""

BY_CODE: dict[str, type[FarmError]] = {
    "AccessDenied": ConfigurationError,
    "AccountProblem": ConfigurationError,
    "AllAccessDisabled": ConfigurationError,
    "ExpiredToken": ConfigurationError,
    "InvalidAccessKeyId": ConfigurationError,
    "InvalidToken": ConfigurationError,
    "SignatureDoesNotMatch": ConfigurationError,
    "RequestTimeTooSkewed": ConfigurationError,
    "NoSuchBucket": ConfigurationError,
    "PermanentRedirect": ConfigurationError,
    "AuthorizationHeaderMalformed": ConfigurationError,
    "BucketAlreadyExists": ConfigurationError,
    "InvalidBucketName": ConfigurationError,
    "QuotaExceeded": ConfigurationError,
    "BadDigest": DigestMismatch,
    "InvalidDigest": DigestMismatch,
    "XAmzContentSHA256Mismatch": DigestMismatch,
    "XAmzContentChecksumMismatch": DigestMismatch,
    "NoSuchKey": NotFound,
    "NoSuchUpload": NotFound,
    "NoSuchVersion": NotFound,
    "BucketAlreadyOwnedByYou": Conflict,
    "PreconditionFailed": Conflict,
    "ConditionalRequestConflict": Conflict,
    "OperationAborted": Conflict,
    "EntityTooLarge": TooLarge,
    "EntityTooSmall": BadRequest,
    "InvalidPart": BadRequest,
    "InvalidPartOrder": BadRequest,
    "IncompleteBody": TransferFailed,
    "InternalError": TransferFailed,
    "RequestTimeout": TransferFailed,
    "ServiceUnavailable": TransferFailed,
    "SlowDown": TransferFailed,
    "Throttling": TransferFailed,
    "TooManyRequests": TransferFailed,
}

BY_STATUS: dict[int, type[FarmError]] = {
    400: FarmBug,
    401: ConfigurationError,
    403: ConfigurationError,
    404: NotFound,
    408: TransferFailed,
    409: Conflict,
    412: Conflict,
    413: TooLarge,
    429: TransferFailed,
}

_ADVICE: dict[type[FarmError], str] = {
    ConfigurationError: "Check FARM_S3_ENDPOINT, FARM_S3_BUCKET and the keys of this farm's store.",
    TransferFailed: "The store did not answer properly; the same request may be repeated.",
}


@contextmanager
def foreign_errors(subject: str) -> Iterator[None]:
    """Raise what botocore raises as the farm's own error about `subject`.

    Raises:
        FarmError: the class that the tables name; FarmBug for what they do not know.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as exc:
        kind, why = _of_response(dict(exc.response))
        raise _error(kind, subject, why) from exc
    except BotoCoreError as exc:
        raise _error(kind_of(type(exc)), subject, str(exc)) from exc


def kind_of(foreign: type[Exception]) -> type[FarmError]:
    """Look an exception class up by inheritance, nearest first."""
    known = (BY_CLASS[c.__name__] for c in foreign.__mro__ if c.__name__ in BY_CLASS)
    return next(known, FarmBug)


def _of_response(response: dict[str, Any]) -> tuple[type[FarmError], str]:
    error = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    by_status = TransferFailed if status >= 500 else BY_STATUS.get(status, FarmBug)
    kind = BY_CODE.get(str(error.get("Code")), by_status)
    return kind, f"{error.get('Code')}, {error.get('Message') or 'no message'} (HTTP {status})"


def _error(kind: type[FarmError], subject: str, why: str) -> FarmError:
    return kind(f"The store refused {subject}: {why}.", remedy=_ADVICE.get(kind), subject=subject)
