"""Send a file: one PUT where that works, parts that resume where it does not."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import httpx

from farm.domain.artifact import FileRef
from farm.domain.errors import DigestMismatch, FarmBug, TransferFailed
from farm.transfer.digest import blocks_of
from farm.transfer.errors import foreign_errors, refusal
from farm.transfer.link import Link, Patience, Progress, using
from farm.wire.transfers import Part, PartRequest, PartTicket, UploadRequest, UploadTicket

T = TypeVar("T")

_SMALL_BYTES = 5 << 20
"""A smaller file is sent whole again when its PUT breaks: parts would save nothing."""
_SEND_BYTES = 256 << 10
_EXISTS = 412


class Tickets(Protocol):
    """The API's side of an upload."""

    def declare(self, request: UploadRequest) -> UploadTicket: ...

    def parts(self, upload: str, requests: Sequence[PartRequest]) -> list[PartTicket]: ...

    def record(self, upload: str, part: Part) -> None: ...

    def complete(self, upload: str) -> None: ...


def upload(
    path: Path, file: FileRef, tickets: Tickets, *, link: Link | None = None, on_progress: Progress | None = None
) -> None:
    """Bring a file's bytes into the store, unless they are there.

    `file` is what `hash_file` said about `path`.

    Raises:
        DigestMismatch: the file is no longer what `file` says.
        TransferFailed: no byte moved for `link.budget_s` seconds.
    """
    with using(link) as used, foreign_errors(f"{file.name} can't be read"), path.open("rb", buffering=0) as opened:
        sending = _Sending(opened.fileno(), file, tickets, link=used, on_progress=on_progress)
        sending.run()


@dataclass(slots=True)
class _Sending:
    """One file on its way."""

    descriptor: int
    file: FileRef
    tickets: Tickets
    link: Link
    on_progress: Progress | None
    patience: Patience = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sent_bytes: int = 0
    most_sent_bytes: int = 0
    broken_put: bool = False

    def __post_init__(self) -> None:
        self.patience = Patience(self.link.budget_s)

    def run(self) -> None:
        ticket = self.patience.retry(self._declare_and_put)
        if ticket.method == "multipart":
            self._send_parts(ticket)
        self._count(self.file.size_bytes - self.sent_bytes)

    def _declare_and_put(self) -> UploadTicket:
        ticket = self._declare(broken_put=self.broken_put)
        if ticket.method == "put":
            try:
                self._put_whole(ticket)
            except TransferFailed:
                self.broken_put = self.file.size_bytes >= _SMALL_BYTES
                raise
        return ticket

    def _declare(self, *, broken_put: bool) -> UploadTicket:
        request = UploadRequest(sha256=self.file.sha256, size_bytes=self.file.size_bytes, broken_put=broken_put)
        return self.tickets.declare(request)

    def _put_whole(self, ticket: UploadTicket) -> None:
        self._put(_given(ticket.url), ticket.headers, first=0, size_bytes=self.file.size_bytes)

    def _send_parts(self, ticket: UploadTicket) -> None:
        upload_id, extents = _given(ticket.upload), extents_of(self.file.size_bytes, _given(ticket.part_size_bytes))
        done = {part.number for part in ticket.done_parts}
        self.most_sent_bytes = 0
        self._count(sum(size_bytes for number, _, size_bytes in extents if number in done))
        self._in_parallel([partial(self._send, upload_id, *extent) for extent in extents if extent[0] not in done])
        self.patience.retry(lambda: self.tickets.complete(upload_id))

    def _in_parallel(self, senders: Sequence[Callable[[], None]]) -> None:
        with ThreadPoolExecutor(self.link.connections) as pool:
            futures = [pool.submit(sender) for sender in senders]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                for future in futures:
                    if future.done():
                        future.result()
            except BaseException:
                self.patience.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _send(self, upload_id: str, number: int, first: int, size_bytes: int) -> None:
        checksum = self._checksum(first, size_bytes)
        request = PartRequest(number=number, sha256_base64=checksum, size_bytes=size_bytes)
        part = self.patience.retry(lambda: self._send_part(upload_id, request, first))
        self.patience.retry(lambda: self.tickets.record(upload_id, part))
        self.patience.moved()

    def _send_part(self, upload_id: str, request: PartRequest, first: int) -> Part:
        (ticket,) = self.tickets.parts(upload_id, [request])
        response = self._put(ticket.url, ticket.headers, first=first, size_bytes=request.size_bytes)
        etag = response.headers.get("etag")
        if etag is None:
            raise TransferFailed(f"The store took part {request.number} of {self.file.name} without naming an ETag.")
        return Part(number=request.number, etag=f"{etag};{request.sha256_base64}")

    def _checksum(self, first: int, size_bytes: int) -> str:
        whole = hashlib.sha256()
        for block in blocks_of(self.descriptor, first, size_bytes):
            whole.update(block)
        return base64.b64encode(whole.digest()).decode()

    def _put(self, url: str, headers: dict[str, str], *, first: int, size_bytes: int) -> httpx.Response:
        body = _Body(self, first, size_bytes)
        subject = f"{self.file.name}, bytes {first} to {first + size_bytes}"
        try:
            with foreign_errors(f"{subject} can't be sent"):
                response = self.link.client.put(
                    url, content=body, headers={"Content-Length": str(size_bytes), **headers}
                )
            if not response.is_success and response.status_code != _EXISTS:
                raise refusal(response, subject)
        except BaseException:
            self._count(-body.sent_bytes)
            raise
        return response

    def _count(self, more_bytes: int) -> None:
        with self.lock:
            self.sent_bytes += more_bytes
            if self.sent_bytes > self.most_sent_bytes:
                self.most_sent_bytes = self.sent_bytes
                self.patience.moved()
            if self.on_progress is not None:
                self.on_progress(self.sent_bytes)


@dataclass(slots=True)
class _Body:
    """A range of the file as a request body that counts what was sent."""

    sending: _Sending
    first: int
    size_bytes: int
    sent_bytes: int = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.sent_bytes < self.size_bytes:
            self.sending.patience.check()
            wanted = min(_SEND_BYTES, self.size_bytes - self.sent_bytes)
            block = os.pread(self.sending.descriptor, wanted, self.first + self.sent_bytes)
            if not block:
                raise DigestMismatch(f"{self.sending.file.name} became shorter while it was sent; submit it again.")
            yield block
            self.sent_bytes += len(block)
            self.sending._count(len(block))


def extents_of(size_bytes: int, part_bytes: int) -> list[tuple[int, int, int]]:
    """Cut a size into parts: (number, first byte, bytes)."""
    firsts = range(0, max(size_bytes, 1), part_bytes)
    return [(number, first, min(part_bytes, size_bytes - first)) for number, first in enumerate(firsts, start=1)]


def _given(value: T | None) -> T:
    if value is None:
        raise FarmBug("An upload ticket lacks what its method needs.")
    return value
