"""Server-side copies that never replace anything: one request up to S3's limit, by parts beyond it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.store.errors import foreign_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        CopyObjectRequestTypeDef,
        UploadPartCopyRequestTypeDef,
    )

SINGLE_COPY_LIMIT_BYTES = 5 << 30
"""Source: Amazon S3 API reference, CopyObject: up to 5 GB in one operation."""
PART_BYTES = 1 << 30
CONTENT_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy within `bucket`; `etag` pins the source's bytes where the source is not yet immutable."""

    bucket: str
    source: str
    target: str
    size_bytes: int
    metadata: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None


def copy_object(client: S3Client, copy: Copy, *, single_limit_bytes: int = SINGLE_COPY_LIMIT_BYTES) -> None:
    """Copy on the server, unless the target exists.

    Raises:
        Conflict: the target exists, or the source is not the pinned one.
        NotFound: no such source.
    """
    with foreign_errors(f"the copy to {copy.target}"):
        if copy.size_bytes > single_limit_bytes:
            _copy_by_parts(client, copy, part_bytes=min(PART_BYTES, single_limit_bytes))
        else:
            _copy_at_once(client, copy)


def _copy_at_once(client: S3Client, copy: Copy) -> None:
    request: CopyObjectRequestTypeDef = {
        "Bucket": copy.bucket,
        "Key": copy.target,
        "CopySource": {"Bucket": copy.bucket, "Key": copy.source},
        "IfNoneMatch": "*",
        "MetadataDirective": "REPLACE",
        "Metadata": copy.metadata,
        "ContentType": CONTENT_TYPE,
    }
    if copy.etag:
        request["CopySourceIfMatch"] = copy.etag
    client.copy_object(**request)


def _copy_by_parts(client: S3Client, copy: Copy, *, part_bytes: int) -> None:
    started = client.create_multipart_upload(
        Bucket=copy.bucket, Key=copy.target, Metadata=copy.metadata, ContentType=CONTENT_TYPE
    )
    upload = started["UploadId"]
    try:
        parts = [
            _copy_part(client, copy, upload=upload, number=number, part_bytes=part_bytes)
            for number in range(1, -(-copy.size_bytes // part_bytes) + 1)
        ]
        client.complete_multipart_upload(
            Bucket=copy.bucket, Key=copy.target, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
        )
    except BaseException:
        client.abort_multipart_upload(Bucket=copy.bucket, Key=copy.target, UploadId=upload)
        raise


def _copy_part(client: S3Client, copy: Copy, *, upload: str, number: int, part_bytes: int) -> CompletedPartTypeDef:
    first = (number - 1) * part_bytes
    request: UploadPartCopyRequestTypeDef = {
        "Bucket": copy.bucket,
        "Key": copy.target,
        "UploadId": upload,
        "PartNumber": number,
        "CopySource": {"Bucket": copy.bucket, "Key": copy.source},
        "CopySourceRange": f"bytes={first}-{min(first + part_bytes, copy.size_bytes) - 1}",
    }
    if copy.etag:
        request["CopySourceIfMatch"] = copy.etag
    return {"PartNumber": number, "ETag": client.upload_part_copy(**request)["CopyPartResult"]["ETag"]}
