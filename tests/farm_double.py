"""A farm's HTTP edge on loopback, scripted: for tests of clients, where no ledger, queue or store is wanted."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "secret-token"
CREATED = "2026-11-24T05:00:00Z"
Answer = tuple[int, Any]


def job_view(job: str = "j-1", state: str = "running", **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "job": job,
        "project": "default",
        "name": None,
        "labels": {},
        "state": state,
        "reasons": [],
        "retry_of": None,
        "created": CREATED,
        "ended": None,
        "results_total": 1,
        "results_by_verdict": {},
        "progress": {"steps_done": 1, "steps_total": 3, "running": ["onnx-to-tflite of digits"]},
    }
    return made | changes


def target(name: str, *hosts: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": f"A machine of {name}",
        "architecture": "x86_64",
        "runtimes": ["litert", "onnxruntime"],
        "live_hosts": list(hosts),
        "verified": True,
    }


def host(name: str, profile: str = "x86-64-v3", *, live: bool = True, **changes: Any) -> dict[str, Any]:
    made = {
        "name": name,
        "profile": profile,
        "architecture": "x86_64",
        "emulated": False,
        "can_measure": True,
        "isolation": "full",
        "live": live,
        "state": "live" if live else "away",
        "last_heartbeat": CREATED,
        "serves": ["build.x86_64", f"target.{profile}"],
        "environments": {},
        "running": [],
    }
    return made | changes


def event(number: int, kind: str, data: Mapping[str, Any]) -> str:
    body = json.dumps({"id": number, "event": kind, "at": CREATED, "data": data})
    return f"id: {number}\nevent: {kind}\ndata: {body}\n\n"


def problem(status: int, code: str, message: str, *, who: str = "submitter", **changes: Any) -> Answer:
    body = {"type": f"urn:{code}", "title": code, "status": status, "detail": message}
    fields = {"code": code, "message": message, "who_must_act": who, "retryable": False, "remedy": None, "evidence": {}}
    return status, {**body, **fields, "reasons": [], **changes}


@dataclass
class FarmDouble:
    """What the scripted farm holds, and what it was asked.

    `answers` maps "METHOD /path" to a fixed answer or a function of the request's body; `streams` are the event streams
    of a job, one per connection, each broken off at its end.
    """

    url: str = ""
    answers: dict[str, Answer | Callable[[Any], Answer]] = field(default_factory=dict)
    streams: list[list[str]] = field(default_factory=list)
    store: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, content: bytes, name: str) -> dict[str, Any]:
        """Keep bytes in the store, and describe them as a download."""
        digest = hashlib.sha256(content).hexdigest()
        self.store[digest] = content
        return {"name": name, "sha256": digest, "size_bytes": len(content), "url": f"{self.url}/store/{digest}"}

    def requests(self, prefix: str) -> list[Any]:
        return [body for line, _, body in self.asked if line.startswith(prefix)]

    def headers(self, prefix: str) -> list[dict[str, str]]:
        return [headers for line, headers, _ in self.asked if line.startswith(prefix)]

    def answer(self, line: str, body: Any) -> Answer:
        path = line.partition("?")[0]
        scripted = self.answers.get(path)
        if callable(scripted):
            return scripted(body)
        if scripted is not None:
            return scripted
        if path == "POST /v1/uploads":
            return self._ticket(body)
        return problem(404, "not-found", f"There is no {path}.")

    def _ticket(self, body: Any) -> Answer:
        if body["sha256"] in self.store:
            return 200, {"method": "present"}
        return 200, {"method": "put", "url": f"{self.url}/store/{body['sha256']}", "headers": {}}


@contextmanager
def farm_double() -> Iterator[FarmDouble]:
    double = FarmDouble()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(double))
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(double: FarmDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            if self.path.startswith("/store/"):
                self._bytes()
            elif re.fullmatch(r"/v1/jobs/[^/]+/events", self.path):
                self._stream()
            else:
                self._json(None)

        def do_POST(self) -> None:
            raw = self._body()
            self._json(json.loads(raw) if raw else None)

        def do_PUT(self) -> None:
            content = self._body()
            double.store[self.path.removeprefix("/store/")] = content
            self._note(len(content))
            self._send(200, b"", "text/plain")

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _note(self, body: Any) -> None:
            with double.lock:
                double.asked.append((f"{self.command} {self.path}", dict(self.headers.items()), body))

        def _json(self, body: Any) -> None:
            self._note(body)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, told = problem(401, "unauthorized", "The token is unknown.")
            else:
                status, told = double.answer(f"{self.command} {self.path}", body)
            kind = "application/problem+json" if status >= 400 else "application/json"
            self._send(status, json.dumps(told).encode(), kind)

        def _bytes(self) -> None:
            self._note(None)
            content = double.store.get(self.path.removeprefix("/store/"), b"")
            first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            told = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
            self._send(206 if first else 200, content[first:], "application/octet-stream", told)

        def _stream(self) -> None:
            self._note(None)
            with double.lock:
                lines = double.streams.pop(0) if double.streams else None
            if lines is None:
                self._send(503, b"", "text/plain")
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write("".join(lines).encode())
            self.close_connection = True

        def _send(self, status: int, body: bytes, kind: str, more: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (more or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
