"""What a farm needs on this machine, checked one by one."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farm.domain.errors import FarmError
from farm.report.text import size
from farm.settings import settings

OLDEST_PYTHON = (3, 11)
NEEDED_DISK_BYTES = 8 << 30
ENVIRONMENTS = ("builder", "onnxruntime", "litert")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    remedy: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"what": self.what, "ok": self.ok, "found": self.found, "remedy": self.remedy}


def examine(data: Path) -> list[Finding]:
    """Look at everything; no finding keeps the others from being made."""
    return [_python(), *_environments(), _isolation(), _disk(data), *_stack(data)]


def _python() -> Finding:
    found, wanted = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
    ok = sys.version_info >= OLDEST_PYTHON
    return Finding("python", ok, found, None if ok else f"Install Python {wanted} or newer.")


def _environments() -> Iterator[Finding]:
    folder = settings().environments_dir
    for name in ENVIRONMENTS:
        python = folder / name / "bin" / "python"
        ok = python.is_file()
        remedy = (
            None if ok else f"Create it with `make environments`, or point FARM_ENVIRONMENTS_DIR at it; {_use(name)}."
        )
        yield Finding(f"environment {name}", ok, str(python) if ok else f"{python} is missing", remedy)


def _use(name: str) -> str:
    return "hosts that only measure do without it" if name == "builder" else f"{name} results need it"


def _isolation() -> Finding:
    from workers.sandbox import self_test

    return self_test()


def _disk(data: Path) -> Finding:
    folder = next(path for path in (data.absolute(), *data.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    ok = free >= NEEDED_DISK_BYTES
    remedy = None if ok else f"Free space, or choose another folder with --data; {size(NEEDED_DISK_BYTES)} are wise."
    return Finding("disk", ok, f"{size(free)} free in {folder}", remedy)


def _stack(data: Path) -> Iterator[Finding]:
    from farm.local import Stack

    try:
        info = Stack(data).info()
    except FarmError as error:
        yield Finding("stack", False, error.message, error.remedy)
        return
    if info is None:
        yield Finding("stack", True, f"none runs in {data}; start it with `farm up`")
        return
    for part, url in (("api", info.api), ("flower", info.flower.url), ("s3", info.s3.endpoint), ("redis", info.redis)):
        yield _listens(part, url)


def _listens(part: str, url: str) -> Finding:
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 0
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError as exc:
        return Finding(
            part, False, f"{host}:{port} does not answer: {exc}", "Run `farm up` again: it starts what is gone."
        )
    return Finding(part, True, f"{host}:{port} answers")
