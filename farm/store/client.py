"""boto3 clients for any S3 server: path-style addresses, Signature V4, checksums only where asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 300
"""A server answers a copy or the completion of a large multipart upload only when it is done."""


def s3_client(settings: Settings, endpoint: str) -> S3Client:
    """Make a client; without keys in the settings, boto3's own credential chain is asked."""
    import boto3
    from botocore.config import Config

    access, secret = settings.s3_access_key, settings.s3_secret_key
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=access.get_secret_value() if access else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
