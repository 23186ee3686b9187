"""One bucket's objects, call by call: what botocore says becomes the farm's errors here and nowhere above."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from farm.domain.errors import Conflict, NotFound
from farm.settings import Settings
from farm.store.client import s3_client
from farm.store.copies import SINGLE_COPY_LIMIT_BYTES, Copy, copy_object
from farm.store.errors import foreign_errors

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One entry of a listing."""

    key: str
    size_bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class OpenMultipart:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    multipart_id: str
    begun: datetime


@dataclass(frozen=True, slots=True)
class NewObject:
    """Bytes to be written under a key that nothing holds yet."""

    key: str
    body: bytes
    content_type: str
    sha256_base64: str
    metadata: Mapping[str, str]


class Bucket:
    """Created on first use when it is missing. Safe to share between threads."""

    def __init__(self, settings: Settings, *, single_copy_limit_bytes: int = SINGLE_COPY_LIMIT_BYTES) -> None:
        self.name = settings.s3_bucket
        self.endpoint = settings.s3_endpoint
        self._connection: S3Client = s3_client(settings, settings.s3_endpoint)
        self._single_copy_limit_bytes = single_copy_limit_bytes
        self._lock = threading.Lock()
        self._is_known = False

    def ensure(self) -> None:
        """Ask for the bucket, and create it when missing."""
        with self._lock:
            try:
                with foreign_errors(f"bucket {self.name}"):
                    self._connection.head_bucket(Bucket=self.name)
            except NotFound:
                self._create()
            self._is_known = True

    def head(self, key: str) -> Mapping[str, Any] | None:
        """Return what HeadObject says (ContentLength, Metadata, ETag), None when there is no such object."""
        try:
            with foreign_errors(key):
                return self._s3.head_object(Bucket=self.name, Key=key)
        except NotFound:
            return None

    def open(self, key: str) -> tuple[int, StreamingBody, str]:
        """Return size in bytes, body and ETag."""
        with foreign_errors(key):
            answer = self._s3.get_object(Bucket=self.name, Key=key)
        return answer["ContentLength"], answer["Body"], answer["ETag"]

    def put_new(self, new: NewObject) -> None:
        """Write an object, unless the key is taken.

        Raises:
            Conflict: it is.
        """
        with foreign_errors(new.key):
            self._s3.put_object(
                Bucket=self.name,
                Key=new.key,
                Body=new.body,
                ContentType=new.content_type,
                ChecksumSHA256=new.sha256_base64,
                IfNoneMatch="*",
                Metadata=new.metadata,
            )

    def copy(self, copy: Copy) -> None:
        copy_object(self._s3, copy, single_limit_bytes=self._single_copy_limit_bytes)

    def delete(self, key: str) -> None:
        with foreign_errors(key):
            self._s3.delete_object(Bucket=self.name, Key=key)

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        with foreign_errors(f"the listing of {prefix}"):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield StoredObject(entry["Key"], entry["Size"], entry["LastModified"])

    def begin_multipart(self, key: str) -> str:
        with foreign_errors(key):
            return self._s3.create_multipart_upload(Bucket=self.name, Key=key, ChecksumAlgorithm="SHA256")["UploadId"]

    def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[CompletedPartTypeDef]) -> None:
        with foreign_errors(f"completion of {key}"):
            self._s3.complete_multipart_upload(
                Bucket=self.name, Key=key, UploadId=multipart_id, MultipartUpload={"Parts": parts}
            )

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Drop the parts; none left is fine."""
        with suppress(NotFound), foreign_errors(key):
            self._s3.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=multipart_id)

    def open_multiparts(self, prefix: str) -> Iterator[OpenMultipart]:
        with foreign_errors("the listing of open uploads"):
            for page in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.name, Prefix=prefix):
                for upload in page.get("Uploads", []):
                    yield OpenMultipart(upload["Key"], upload["UploadId"], upload["Initiated"])

    @property
    def _s3(self) -> S3Client:
        if not self._is_known:
            self.ensure()
        return self._connection

    def _create(self) -> None:
        """Create the bucket; another process that was faster is fine."""
        with suppress(Conflict), foreign_errors(f"the creation of bucket {self.name}"):
            self._connection.create_bucket(Bucket=self.name)
