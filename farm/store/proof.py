"""Whether a store keeps the promises that immutability rests on. Some servers accept the headers and ignore them."""

from __future__ import annotations

import hashlib
import secrets

from farm.domain.errors import ConfigurationError, Conflict, DigestMismatch
from farm.store.bucket import Bucket, NewObject
from farm.store.names import base64_of_hex, upload_key

_BODY = b"the farm asks whether this store checks what it is sent"


def prove(bucket: Bucket) -> None:
    """Send what a trustworthy store refuses: bytes under a wrong checksum, and a second object under one key.

    Raises:
        ConfigurationError: naming every promise the store does not keep.
    """
    key = upload_key(f"proof-{secrets.token_hex(8)}")
    try:
        broken = [promise for promise, is_kept in (_checksums(bucket, key), _conditions(bucket, key)) if not is_kept]
    finally:
        bucket.delete(key)
    if broken:
        raise ConfigurationError(
            f"The S3 server at {bucket.endpoint} {' and '.join(broken)}; artifacts would not be safe there.",
            remedy="Use a store that enforces both: the farm is tested with SeaweedFS 4.48.",
        )


def _checksums(bucket: Bucket, key: str) -> tuple[str, bool]:
    try:
        bucket.put_new(_object(key, hashlib.sha256(b"other bytes").hexdigest()))
    except DigestMismatch:
        return "", True
    bucket.delete(key)
    return "stores bytes whose x-amz-checksum-sha256 is wrong", False


def _conditions(bucket: Bucket, key: str) -> tuple[str, bool]:
    right = _object(key, hashlib.sha256(_BODY).hexdigest())
    bucket.put_new(right)
    try:
        bucket.put_new(right)
    except Conflict:
        return "", True
    return "replaces an object in spite of If-None-Match", False


def _object(key: str, sha256: str) -> NewObject:
    return NewObject(key, _BODY, "text/plain", base64_of_hex(sha256), metadata={})
