"""Keys of the bucket, and names from users made safe to stand in them."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata

from farm.domain.errors import BadRequest

UPLOADS = "uploads/"
BLOBS = "blobs/sha256/"
SHARED = "default"
"""The project whose content lies at the top of the bucket; every other one has a folder of its own."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_RESERVED = re.compile(r"\.|con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)
_LONGEST_NAME = 80


def blob_key(sha256: str, project: str = SHARED) -> str:
    """Place content by its digest, apart for each project: who knows a digest does not thereby have the bytes.

    Raises:
        BadRequest: not 64 lower-case hexadecimal digits, or a project that could leave its folder.
    """
    if not _ID.fullmatch(project):
        raise BadRequest(f"{project[:80]!r} is not the id of a project.")
    if not _SHA256.fullmatch(sha256):
        raise BadRequest(f"{sha256[:80]!r} is not a sha256: 64 lower-case hexadecimal digits are expected.")
    root = "" if project == SHARED else f"projects/{project}/"
    return f"{root}{BLOBS}{sha256[:2]}/{sha256}"


def upload_key(upload_id: str) -> str:
    """Place an unverified upload.

    Raises:
        BadRequest: an id that could leave its folder.
    """
    if not _ID.fullmatch(upload_id):
        raise BadRequest(f"{upload_id[:80]!r} is not an upload id.")
    return f"{UPLOADS}{upload_id}/file"


def safe_name(name: str) -> str:
    """Make one path segment of any text: ASCII letters, digits and "._+-", never hidden, never a device name.

    A name that is safe already stays as it is; any other gets a short digest of the original appended, so that two
    names do not meet in one key.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    cleaned = _UNSAFE.sub("-", plain).strip(".-")[:_LONGEST_NAME] or "name"
    if cleaned == name and not _RESERVED.fullmatch(cleaned.partition(".")[0]):
        return cleaned
    return f"{cleaned}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def base64_of_hex(sha256: str) -> str:
    """Write a hexadecimal digest as S3's checksum headers want it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()
