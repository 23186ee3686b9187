"""What transfer tests share: the API's side of an upload on a real store, and a proxy that cuts connections."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farm.domain.artifact import FileRef
from farm.store import Store
from farm.wire.transfers import Download, Part, PartRequest, PartTicket, UploadRequest, UploadTicket

PART_BYTES = 5 << 20


@dataclass
class StoreTickets:
    """Answers as the API does, with a dictionary for its ledger."""

    store: Store
    upload: str = "u1"
    part_size_bytes: int = PART_BYTES
    multipart: str | None = None
    file: FileRef | None = None
    recorded: dict[int, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def declare(self, request: UploadRequest) -> UploadTicket:
        self.calls.append("declare")
        self.file = FileRef("f", request.sha256, request.size_bytes)
        if self.store.has_blob(request.sha256, request.size_bytes):
            return UploadTicket(method="present")
        if not request.broken_put:
            url, headers = self.store.presign_blob_put(self.file)
            return UploadTicket(method="put", url=url, headers=headers)
        self.multipart = self.multipart or self.store.begin_multipart(self.upload)
        done = [Part(number=number, etag=etag) for number, etag in self.recorded.items()]
        return UploadTicket(
            method="multipart", upload=self.upload, part_size_bytes=self.part_size_bytes, done_parts=done
        )

    def parts(self, upload: str, requests: Sequence[PartRequest]) -> list[PartTicket]:
        self.calls += [f"part {request.number}" for request in requests]
        return [self._ticket(upload, request) for request in requests]

    def _ticket(self, upload: str, request: PartRequest) -> PartTicket:
        assert self.multipart is not None
        url, headers = self.store.presign_part(
            upload, self.multipart, request.number, request.sha256_base64, request.size_bytes
        )
        return PartTicket(url=url, headers=headers)

    def record(self, upload: str, part: Part) -> None:
        self.calls.append(f"record {part.number}")
        self.recorded[part.number] = part.etag

    def complete(self, upload: str) -> None:
        self.calls.append("complete")
        assert self.multipart is not None
        assert self.file is not None
        self.store.complete_multipart(upload, self.multipart, list(self.recorded.items()))
        self.store.promote(upload, self.file)


class ByParts(StoreTickets):
    """Asks for parts from the start, as after a PUT that broke."""

    def declare(self, request: UploadRequest) -> UploadTicket:
        return super().declare(request.model_copy(update={"broken_put": True}))


@dataclass
class CuttingProxy:
    """Forwards TCP, and cuts (or holds up) each of the first connections after so many bytes in one direction."""

    target_port: int
    cuts_down: list[int] = field(default_factory=list)
    cuts_up: list[int] = field(default_factory=list)
    stalls: bool = False
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    stalled: threading.Event = field(default_factory=threading.Event)
    connections: int = 0
    received_bytes: int = 0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self.target_port))
                down = self.cuts_down.pop(0) if self.cuts_down else None
                up = self.cuts_up.pop(0) if self.cuts_up else None
                for pair, limit in (((far, near), down), ((near, far), up)):
                    threading.Thread(target=self._pump, args=(*pair, limit), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                data = data if limit is None else data[: limit - passed]
                sink.sendall(data)
                passed += len(data)
                self.received_bytes += len(data)
                if limit is not None and passed >= limit:
                    if self.stalls:
                        self.stalled.set()
                        return
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
                end.close()


@contextlib.contextmanager
def cutting_proxy(
    target_port: int, *, cuts_down: Sequence[int] = (), cuts_up: Sequence[int] = (), stalls: bool = False
) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(target_port, list(cuts_down), list(cuts_up), stalls)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.listener.close()


def random_file(path: Path, size_bytes: int, seed: int = 0) -> FileRef:
    """Write a file whose blocks all differ."""
    whole = hashlib.sha256()
    with path.open("wb") as file:
        for first in range(0, size_bytes, 1 << 20):
            block = hashlib.shake_128(f"{seed} {first}".encode()).digest(min(1 << 20, size_bytes - first))
            file.write(block)
            whole.update(block)
    return FileRef(path.name, whole.hexdigest(), size_bytes)


def item_of(store: Store, file: FileRef, name: str | None = None) -> Download:
    return Download(
        name=name or file.name, sha256=file.sha256, size_bytes=file.size_bytes, url=store.presign_blob_get(file)
    )
