"""URLs that let clients and hosts reach one object, once, for a while: what may be sent is part of the signature."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from farm.domain.artifact import FileRef
from farm.settings import Settings
from farm.store.client import s3_client
from farm.store.errors import foreign_errors
from farm.store.names import base64_of_hex, upload_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Signed = tuple[str, dict[str, str]]
"""A URL, and the headers that must be sent with it."""


class Presigner:
    """Sign for the public endpoint; never opens a connection."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._lifetime_s = settings.url_lifetime_s
        self._client: S3Client = s3_client(settings, settings.s3_public_endpoint or settings.s3_endpoint)

    def put(self, key: str, file: FileRef) -> Signed:
        """Sign a PUT that the store takes only when digest and length are the declared ones and the key is new."""
        checksum = base64_of_hex(file.sha256)
        url = self._sign("put_object", key, ChecksumSHA256=checksum, ContentLength=file.size_bytes, IfNoneMatch="*")
        return url, {**_put_headers(checksum, file.size_bytes), "If-None-Match": "*"}

    def part(self, upload_id: str, multipart_id: str, *, number: int, sha256_base64: str, size_bytes: int) -> Signed:
        url = self._sign(
            "upload_part",
            upload_key(upload_id),
            UploadId=multipart_id,
            PartNumber=number,
            ChecksumSHA256=sha256_base64,
            ContentLength=size_bytes,
        )
        return url, _put_headers(sha256_base64, size_bytes)

    def get(self, key: str, download_name: str | None = None) -> str:
        if download_name is None:
            return self._sign("get_object", key)
        file_name = quote(PurePosixPath(download_name).name.encode("utf-8", "surrogatepass"))
        return self._sign("get_object", key, ResponseContentDisposition=f"attachment; filename*=UTF-8''{file_name}")

    def _sign(self, method: str, key: str, **parameters: Any) -> str:
        with foreign_errors(f"a signed URL for {key}"):
            return self._client.generate_presigned_url(
                method, Params={"Bucket": self._bucket, "Key": key, **parameters}, ExpiresIn=self._lifetime_s
            )


def _put_headers(sha256_base64: str, size_bytes: int) -> dict[str, str]:
    return {"x-amz-checksum-sha256": sha256_base64, "Content-Length": str(size_bytes)}
