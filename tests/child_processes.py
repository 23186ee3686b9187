"""Refuse child processes to a stage that may start none, as its sandbox does, and note who tried.

A hook of the interpreter sees what Python starts; what native code starts is the sandbox's to stop (test_sandbox_*).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from farm.domain.stage import StageSpec

STARTED = "started.json"
STARTS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pty.spawn",
        "subprocess.Popen",
    }
)
"""Events of https://docs.python.org/3/library/audit_events.html"""
_tried: list[str] | None = None


@cache
def _watch() -> None:
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in STARTS and _tried is not None:
        _tried.append(f"{event} {arguments!r}"[:500])
        raise PermissionError(f"{event} is refused here")


@contextmanager
def refused(spec: StageSpec, work: Path) -> Iterator[None]:
    """Refuse and note every start within the body; writes the notes to WORK/started.json.

    What is warm in a worker is imported before, as there. A stage that may start programs is left alone.
    """
    global _tried
    _watch()
    for name in spec.preload:
        importlib.import_module(name)
    tried: list[str] = []
    _tried = None if spec.spawns else tried
    try:
        yield
    finally:
        _tried = None
        (work / STARTED).write_text(json.dumps(tried))
