"""Uploads: declared by digest, sent straight to the store, counted once verified."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from farm.wire.base import Message, Sha256


class UploadRequest(Message):
    """Declare one file. `broken_put` asks for the multipart form after a PUT that broke."""

    sha256: Sha256
    size_bytes: int = Field(ge=0)
    broken_put: bool = False


class UploadTicket(Message):
    """How to send the file.

    `present`: this project has these bytes; send nothing. `put`: one PUT of the whole file to `url` with `headers`.
    `multipart`: ask for part URLs, PUT each part, complete with every part's ETag; `upload` stays valid across restarts
    and `done_parts` are those already recorded.
    """

    method: Literal["present", "put", "multipart"]
    upload: str | None = None
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    part_size_bytes: int | None = None
    done_parts: list[Part] = Field(default_factory=list)


class Part(Message):
    """A part that the store has acknowledged.

    `etag` is the receipt: the store's ETag, ";" and the part's sha256 in base64. S3 wants both named at completion.
    """

    number: int = Field(ge=1, le=10_000)
    etag: str


class PartRequest(Message):
    """Ask for the URL of one part; `sha256_base64` is signed into it."""

    number: int = Field(ge=1, le=10_000)
    sha256_base64: str
    size_bytes: int = Field(ge=1)


class PartTicket(Message):
    """Where to PUT one part."""

    url: str
    headers: dict[str, str]


class Download(Message):
    """A file to fetch: verify `sha256` before it counts."""

    name: str
    sha256: Sha256
    size_bytes: int
    url: str
