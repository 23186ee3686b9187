"""What a farm needs on this machine, checked one by one."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farm.domain.errors import FarmError
from farm.report.text import size
from farm.settings import settings
from workers import environments
from workers.sandbox import Level, Sandbox

OLDEST_PYTHON = (3, 11)
NEEDED_DISK_BYTES = 8 << 30
NEEDED_FOR = {
    "builder": "conversions need it, a host that only measures does not",
    "onnxruntime": "results for onnxruntime need it",
    "litert": "results for litert need it",
}
INSTALL = "python -m workers.environments install"
CODE_ROOT = Path(__file__).parents[2]
TRAVERSABLE = 0o711
"""The sandbox's users pass through the folder; they can't list it."""


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
    for name in environments.names():
        installed = environments.installed_digest(folder, name)
        if installed == environments.lock_digest(name):
            yield Finding(f"environment {name}", True, str(folder / name))
            continue
        found = f"{folder / name} is of another version" if installed else f"{folder / name} is not installed"
        ok = name not in NEEDED_FOR and not installed
        remedy = f"Install it with `{INSTALL} {name}`; {NEEDED_FOR.get(name, 'it adds routes, the others do without')}."
        yield Finding(f"environment {name}", ok, found, remedy)


def _isolation() -> Finding:
    """Run the sandbox's own probes, as a worker does at its start."""
    with tempfile.TemporaryDirectory(prefix="farm-") as folder:
        Path(folder).chmod(TRAVERSABLE)
        try:
            with Sandbox(folder=Path(folder), accept=tuple(Level), code_root=CODE_ROOT, slots=1) as sandbox:
                level, missing = sandbox.level, sandbox.missing
        except FarmError as error:
            return Finding("isolation", False, error.message, error.remedy)
    ok = level in settings().accept_isolation
    found = f"{level.value}" + (f"; lacks {', '.join(missing)}" if missing else "")
    return Finding(
        "isolation", ok, found, None if ok else "Run on a kernel with user namespaces, landlock and seccomp."
    )


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
