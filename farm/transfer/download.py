"""Fetch a file: beside its destination first, verified while it arrives, resumed where it broke off."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from farm.domain.errors import DigestMismatch, TransferFailed
from farm.transfer.digest import BLOCK_BYTES, blocks_of
from farm.transfer.errors import foreign_errors, refusal
from farm.transfer.link import Link, Patience, Progress, using
from farm.wire.transfers import Download

_LARGE_BYTES = 4 << 20
"""From here on, reading the socket directly saves more than keeping the connection would."""


def download(
    item: Download,
    destination: Path,
    *,
    link: Link | None = None,
    on_progress: Progress | None = None,
    refresh_url: Callable[[], str] | None = None,
) -> None:
    """Put a verified file at `destination`, in one step; a partial one stays beside it to resume from.

    `refresh_url` gives a new URL when the item's has expired.

    Raises:
        DigestMismatch: the store holds other bytes; nothing is left.
        HostFull: no room; what arrived stays.
        TransferFailed: no byte moved for `link.budget_s` seconds; what arrived stays.
    """
    part = part_path(destination, item.sha256)
    with using(link) as used, foreign_errors(f"{item.name} can't be written"), _opened(part) as descriptor:
        receiving = _Receiving(
            descriptor, item, link=used, on_progress=on_progress, refresh_url=refresh_url or (lambda: item.url)
        )
        try:
            receiving.run()
        except DigestMismatch:
            part.unlink()
            raise
        part.replace(destination)


def part_path(destination: Path, sha256: str) -> Path:
    """Name the partial file; of a very long name only the end gives way."""
    ending = f".part-{sha256[:12]}"
    stem = os.fsencode(destination.name)[: 255 - len(ending)]
    return destination.with_name(stem.decode("utf-8", "ignore") + ending)


@contextmanager
def _opened(part: Path) -> Iterator[int]:
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Receiving:
    """One file on its way."""

    descriptor: int
    item: Download
    link: Link
    on_progress: Progress | None
    refresh_url: Callable[[], str]
    patience: Patience = field(init=False)
    url: str = field(init=False)
    received_bytes: int = 0
    whole: hashlib._Hash = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        self.patience = Patience(self.link.budget_s)
        self.url = self.item.url

    def run(self) -> None:
        resumed = self._take_what_is_there()
        try:
            self._fetch_and_verify()
        except DigestMismatch:
            if not resumed:
                raise
            self._start_over()
            self._fetch_and_verify()

    def _take_what_is_there(self) -> bool:
        present_bytes = os.fstat(self.descriptor).st_size
        if present_bytes > self.item.size_bytes:
            self._start_over()
            return False
        for block in blocks_of(self.descriptor, 0, present_bytes):
            self._count(block)
        return present_bytes > 0

    def _start_over(self) -> None:
        os.ftruncate(self.descriptor, 0)
        self.received_bytes, self.whole = 0, hashlib.sha256()

    def _fetch_and_verify(self) -> None:
        if self.received_bytes < self.item.size_bytes:
            self.patience.retry(self._fetch_rest)
        if self.whole.hexdigest() != self.item.sha256:
            raise DigestMismatch(
                f"{self.item.name} arrived with sha256 {self.whole.hexdigest()}; {self.item.sha256} was published.",
                remedy="The stored file is damaged: tell the farm's operator. Nothing was kept.",
            )

    def _fetch_rest(self) -> None:
        headers = {"Range": f"bytes={self.received_bytes}-"} if self.received_bytes else {}
        with (
            foreign_errors(f"{self.item.name} can't be fetched"),
            self.link.client.stream("GET", self.url, headers={"Accept-Encoding": "identity", **headers}) as response,
        ):
            self._check(response)
            for block in body_blocks(response, self.item.size_bytes - self.received_bytes):
                self._write(block)
        if self.received_bytes < self.item.size_bytes:
            raise TransferFailed(f"{self.item.name} ended at {self.received_bytes} of {self.item.size_bytes} bytes.")

    def _check(self, response: httpx.Response) -> None:
        if not response.is_success:
            error = refusal(response, self.item.name)
            if error.evidence.get("expired"):
                self.url = self.refresh_url()
            raise error
        if first_byte(response) != self.received_bytes:
            self._start_over()
        announced = response.headers.get("Content-Length")
        expected_bytes = self.item.size_bytes - self.received_bytes
        if announced is not None and int(announced) != expected_bytes:
            raise DigestMismatch(
                f"The store holds {self.received_bytes + int(announced)} bytes as {self.item.name}; "
                f"{self.item.size_bytes} were published."
            )

    def _write(self, block: memoryview) -> None:
        self._count(block)
        with foreign_errors(f"{self.item.name} can't be written"):
            offset = self.received_bytes - len(block)
            while block:
                written = os.pwrite(self.descriptor, block, offset)
                block, offset = block[written:], offset + written

    def _count(self, block: memoryview) -> None:
        self.whole.update(block)
        self.received_bytes += len(block)
        self.patience.moved()
        if self.on_progress is not None:
            self.on_progress(self.received_bytes)


def first_byte(response: httpx.Response) -> int:
    """Tell where a body begins in its file: Content-Range decides, since some servers answer a range with 200."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found.group(1)) if found else 0


def body_blocks(response: httpx.Response, size_bytes: int) -> Iterator[memoryview]:
    """Read a body of known size in large blocks into one buffer: a block is valid until the next one.

    A large body is read straight from the connection's socket, which takes half the processor time of reading it
    through the client's parser; the connection is closed afterwards.

    Raises:
        TransferFailed: the body ended early, or runs on after `size_bytes`.
    """
    left_bytes = size_bytes
    connection = _socket_of(response) if size_bytes >= _LARGE_BYTES else None
    for chunk in response.iter_raw():
        left_bytes -= len(chunk)
        if left_bytes < 0:
            raise TransferFailed("The store sent more bytes than it announced.")
        yield memoryview(chunk)
        if connection is not None:
            yield from _socket_blocks(connection, left_bytes)
            return


def _socket_of(response: httpx.Response) -> socket.socket | None:
    """Return the socket behind an HTTP/1.1 response whose length is known; none below TLS within TLS."""
    stream = response.extensions.get("network_stream")
    if stream is None or response.http_version != "HTTP/1.1" or "Content-Length" not in response.headers:
        return None
    found = stream.get_extra_info("socket")
    is_outermost = stream.get_extra_info("ssl_object") in (None, found)
    return found if is_outermost and isinstance(found, socket.socket) else None


def _socket_blocks(connection: socket.socket, size_bytes: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(BLOCK_BYTES))
    left_bytes = size_bytes
    while left_bytes:
        filled, wanted = 0, min(left_bytes, BLOCK_BYTES)
        while filled < wanted and (count := connection.recv_into(buffer[filled:wanted])):
            filled += count
        if filled:
            yield buffer[:filled]
        if filled < wanted:
            raise TransferFailed(f"The connection ended {left_bytes - filled} bytes before the file did.")
        left_bytes -= filled
