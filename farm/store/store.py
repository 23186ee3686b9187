"""Content by digest, uploads until they are verified, and published names that never change their bytes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from farm.domain.artifact import FileRef
from farm.domain.errors import Conflict, DigestMismatch, FarmUnreachable, NotFound, TooLarge, TransferFailed
from farm.settings import Settings
from farm.store.bucket import Bucket, NewObject, StoredObject
from farm.store.copies import CONTENT_TYPE, SINGLE_COPY_LIMIT_BYTES, Copy
from farm.store.errors import foreign_errors
from farm.store.names import SHARED, UPLOADS, base64_of_hex, blob_key, upload_key
from farm.store.presign import Presigner, Signed
from farm.store.proof import prove

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_BLOCK_BYTES = 1 << 20
_DIGEST = "sha256"
"""Metadata of what the control plane itself writes; clients can write only blobs and parts."""


class Store:
    """Everything the control plane asks of S3. Safe to share between threads.

    Every method raises TransferFailed when the store does not answer and ConfigurationError when it refuses the keys.
    """

    def __init__(self, settings: Settings, *, single_copy_limit_bytes: int = SINGLE_COPY_LIMIT_BYTES) -> None:
        self._bucket = Bucket(settings, single_copy_limit_bytes=single_copy_limit_bytes)
        self._presigner = Presigner(settings)
        self._project = SHARED

    def of(self, project: str) -> Self:
        """Return this store with another project's content; published names and uploads are the same."""
        other = copy.copy(self)
        other._project = project
        return other

    def blob_key(self, sha256: str) -> str:
        return blob_key(sha256, self._project)

    def ping(self) -> None:
        """Ask the store for the bucket, and create it when missing.

        Raises:
            FarmUnreachable: no answer.
        """
        try:
            self._bucket.ensure()
        except TransferFailed as exc:
            raise FarmUnreachable(f"S3 at {self._bucket.endpoint} does not answer: {exc.message}") from exc

    def prove(self) -> None:
        """Check, with three small requests, that the store enforces checksums and conditions.

        Raises:
            ConfigurationError: it does not.
        """
        prove(self._bucket)

    def has_blob(self, sha256: str, size_bytes: int) -> bool:
        head = self._bucket.head(self.blob_key(sha256))
        return head is not None and head["ContentLength"] == size_bytes

    def presign_blob_put(self, file: FileRef) -> Signed:
        """Sign one PUT of a whole blob, bound to digest, length and absence."""
        return self._presigner.put(self.blob_key(file.sha256), file)

    def presign_blob_get(self, file: FileRef) -> str:
        return self._presigner.get(self.blob_key(file.sha256), file.name)

    def presign_get(self, key: str, download_name: str | None = None) -> str:
        return self._presigner.get(key, download_name)

    def begin_multipart(self, upload_id: str) -> str:
        """Open a multipart upload to uploads/<upload_id>/ and return S3's id of it."""
        return self._bucket.begin_multipart(upload_key(upload_id))

    def presign_part(
        self, upload_id: str, multipart_id: str, number: int, sha256_base64: str, size_bytes: int
    ) -> Signed:
        return self._presigner.part(
            upload_id, multipart_id, number=number, sha256_base64=sha256_base64, size_bytes=size_bytes
        )

    def complete_multipart(self, upload_id: str, multipart_id: str, parts: Iterable[tuple[int, str]]) -> None:
        """Join the parts, (number, receipt) each as wire.transfers.Part has them; unverified until `promote`.

        Joining again is fine.

        Raises:
            BadRequest: a part is missing, too small or not the acknowledged one.
            NotFound: no such upload.
        """
        key = upload_key(upload_id)
        try:
            self._bucket.complete_multipart(key, multipart_id, [_completed(*part) for part in sorted(parts)])
        except NotFound:
            if self._bucket.head(key) is None:
                raise

    def promote(self, upload_id: str, file: FileRef) -> None:
        """Read an upload once, and make it a blob when it is what was declared; the upload is gone afterwards.

        Memory stays constant. Promoting what is a blob already only removes the upload.

        Raises:
            DigestMismatch: size or digest differ from the declaration; the upload was deleted.
            NotFound: neither upload nor blob exists.
        """
        key = upload_key(upload_id)
        if not self.has_blob(file.sha256, file.size_bytes):
            etag = self._verified_etag(key, file)
            self._copy_to_blob(
                Copy(self._bucket.name, key, self.blob_key(file.sha256), file.size_bytes, etag=etag), file
            )
        self._bucket.delete(key)

    def abort(self, upload_id: str, multipart_id: str | None = None) -> None:
        """Forget an upload and its parts; one that is gone already is fine."""
        if multipart_id is not None:
            self._bucket.abort_multipart(upload_key(upload_id), multipart_id)
        self._bucket.delete(upload_key(upload_id))

    def expire_uploads(self, older_than_s: float) -> int:
        """Remove uploads and open multipart uploads older than that; return how many there were."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        objects = [found.key for found in self._bucket.listing(UPLOADS) if found.modified < before]
        for key in objects:
            self._bucket.delete(key)
        multiparts = [found for found in self._bucket.open_multiparts(UPLOADS) if found.begun < before]
        for found in multiparts:
            self._bucket.abort_multipart(found.key, found.multipart_id)
        return len(objects) + len(multiparts)

    def publish(self, file: FileRef, key: str) -> None:
        """Copy a blob to a name, on the server; again with the same bytes is fine.

        Raises:
            Conflict: the name holds other bytes.
            NotFound: no such blob.
        """
        source = self.blob_key(file.sha256)
        try:
            self._bucket.copy(Copy(self._bucket.name, source, key, file.size_bytes, metadata={_DIGEST: file.sha256}))
        except Conflict as exc:
            self._require_same(key, file, exc)

    def put_document(self, key: str, body: bytes, content_type: str) -> None:
        """Write a small immutable object; again with the same bytes is fine.

        Raises:
            Conflict: the name holds other bytes.
        """
        file = FileRef(key, hashlib.sha256(body).hexdigest(), len(body))
        try:
            self._put(file, key, body=body, content_type=content_type)
        except Conflict as exc:
            self._require_same(key, file, exc)

    def put_blob(self, data: bytes, name: str = "data") -> FileRef:
        """Store bytes of our own as content."""
        file = FileRef(name, hashlib.sha256(data).hexdigest(), len(data))
        if not self.has_blob(file.sha256, file.size_bytes):
            try:
                self._put(file, self.blob_key(file.sha256), body=data, content_type=CONTENT_TYPE)
            except Conflict:
                self._require_blob(file)
        return file

    def get_bytes(self, sha256: str, limit_bytes: int) -> bytes:
        """Read a small blob and check its digest.

        Raises:
            TooLarge: over `limit_bytes`.
            DigestMismatch: the store holds other bytes.
            NotFound: no such blob.
        """
        size_bytes, body, _ = self._bucket.open(self.blob_key(sha256))
        with body:
            if size_bytes > limit_bytes:
                raise TooLarge(f"Blob {sha256} holds {size_bytes} bytes; at most {limit_bytes} are read here.")
            with foreign_errors(f"blob {sha256}"):
                data = body.read()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise DigestMismatch(f"Blob {sha256} does not hold the bytes that its name says.", sha256=sha256)
        return data

    def list_prefix(self, prefix: str) -> Iterator[StoredObject]:
        """List in key order, page by page."""
        return self._bucket.listing(prefix)

    def _put(self, file: FileRef, key: str, *, body: bytes, content_type: str) -> None:
        self._bucket.put_new(
            NewObject(key, body, content_type, base64_of_hex(file.sha256), metadata={_DIGEST: file.sha256})
        )

    def _copy_to_blob(self, copy: Copy, file: FileRef) -> None:
        try:
            self._bucket.copy(copy)
        except Conflict:
            self._require_blob(file)

    def _verified_etag(self, key: str, file: FileRef) -> str:
        size_bytes, body, etag = self._bucket.open(key)
        with body:
            sha256 = _sha256_of(body, key) if size_bytes == file.size_bytes else None
        if sha256 == file.sha256:
            return etag
        self._bucket.delete(key)
        raise DigestMismatch(
            f"The upload of {file.name} holds {size_bytes} bytes with sha256 {sha256 or '(not read)'}; "
            f"{file.size_bytes} bytes with {file.sha256} were declared. It was deleted; upload the file again.",
            sha256=sha256,
            declared=file.sha256,
        )

    def _require_blob(self, file: FileRef) -> None:
        if not self.has_blob(file.sha256, file.size_bytes):
            raise Conflict(f"Blob {file.sha256} exists with another size than {file.size_bytes} bytes.")

    def _require_same(self, key: str, file: FileRef, conflict: Conflict) -> None:
        head = self._bucket.head(key)
        if head is None:
            raise conflict
        if (head["Metadata"].get(_DIGEST), head["ContentLength"]) != (file.sha256, file.size_bytes):
            raise Conflict(f"{key} exists with other bytes; a published name never changes.", key=key) from conflict


def _completed(number: int, receipt: str) -> CompletedPartTypeDef:
    """Name a part by its ETag, and by its checksum where the receipt has one: the store then proves it again."""
    etag, _, checksum = receipt.partition(";")
    part: CompletedPartTypeDef = {"PartNumber": number, "ETag": etag}
    if checksum:
        part["ChecksumSHA256"] = checksum
    return part


def _sha256_of(body: StreamingBody, subject: str) -> str:
    whole = hashlib.sha256()
    with foreign_errors(subject):
        while block := body.read(_BLOCK_BYTES):
            whole.update(block)
    return whole.hexdigest()
