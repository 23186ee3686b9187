"""Calls of stages whose answers are kept below build/matrix, so that a matrix that was cut off goes on where it was.

An answer's folder is named by all that made it: the scripts of the source models, all of workers/stages and
workers/runtimes, and of each stage on the way its version, its options and its environment's lock. `make clean` forgets
them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import Failure, ToolCrashed, ToolTimedOut
from farm.domain.stage import StageSpec
from tests.stage_fixtures import LOOP, PREPARED, ROOT, Answer, Call
from workers.environments import lock_digest

KEPT = ROOT / "build" / "matrix"
LIMIT_S = 300.0
"""Without a new answer for so long, the call at work has timed out."""
LAST_WORDS = 300
_SCRIPTS = ("stage_models.py", "stage_fixtures.py", "transform_fixtures.py")
_MODULES = ("workers/stages", "workers/runtimes")


def key_of(spec: StageSpec, before: str, options: Mapping[str, Any]) -> str:
    """Name what a stage makes of what `before` names: a source format, or the key of the stage before it."""
    told = [_code(), spec.name, spec.version, lock_digest(spec.environment), before, json.dumps(encode(options))]
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Name the code as it is: a stage's answer may hang on any module beside it, so that all of them count."""
    scripts = [Path(__file__).with_name(name) for name in _SCRIPTS]
    modules = [file for part in _MODULES for file in sorted((ROOT / part).rglob("*.py"))]
    digest = hashlib.sha256()
    for file in (*scripts, *modules):
        digest.update(f"{file.relative_to(ROOT)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def kept(key: str) -> Answer | None:
    result = KEPT / key / "result.json"
    return Answer(KEPT / key, json.loads(result.read_text())) if result.exists() else None


def answer_all(environment: str, calls: Mapping[str, Call]) -> dict[str, Answer]:
    """Answer every call, by key, in as few processes as may be.

    A call during which the process dies or stands still is tried once more, alone; what that came to is its answer.
    """
    left = [key for key in calls if kept(key) is None]
    while left:
        end = _run(environment, {key: calls[key] for key in left})
        answered = [key for key in left if kept(key) is not None]
        left = [key for key in left if key not in answered]
        if not left:
            break
        blamed = left.pop(0)
        alone = end if len(calls) == 1 else _run(environment, {blamed: calls[blamed]})
        if kept(blamed) is None:
            (KEPT / blamed / "result.json").write_text(json.dumps({"failure": encode(alone)}))
    return {key: answer for key in calls if (answer := kept(key)) is not None}


def _run(environment: str, calls: Mapping[str, Call]) -> Failure:
    """Run calls in one process. Returns: how the call that it left without an answer failed."""
    for key, call in calls.items():
        shutil.rmtree(KEPT / key, ignore_errors=True)
        (KEPT / key).mkdir(parents=True)
        files = {role: str(path) for role, path in call.files.items()}
        message = {"stage": call.stage, "files": files, "options": encode(call.options), "contract": call.contract}
        (KEPT / key / "call.json").write_text(json.dumps(message))
    log = KEPT / next(iter(calls)) / "log"
    python = ROOT / ".envs" / environment / "bin" / "python"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [python, "-c", LOOP, *(str(KEPT / key) for key in calls)],
            env=PREPARED | {"HOME": str(log.parent)},
            cwd=log.parent,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        late = _watch(process, list(calls))
    if late:
        return ToolTimedOut(f"it gave no answer within {LIMIT_S:.0f} s").failure
    return ToolCrashed(f"its process {_ended(process.returncode)}{_last_words(log)}").failure


def _watch(process: subprocess.Popen[bytes], keys: list[str]) -> bool:
    """Wait for a process to end, and end it when it gives no answer in time. Returns: whether that was needed."""
    answered, since = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        if (now := sum(kept(key) is not None for key in keys)) > answered:
            answered, since = now, time.monotonic()
        elif time.monotonic() - since > LIMIT_S:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    return False


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code} and gave no answer"


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"; its last words: {lines[-1][-LAST_WORDS:]}" if lines else ""
