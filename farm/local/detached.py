"""Start a supervisor that goes on without us, and wait until it reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Literal

from farm.domain.codec import decode
from farm.domain.errors import Failure, FarmError, FarmUnreachable
from farm.local.blueprint import Blueprint
from farm.local.running import Progress, log_tail
from farm.local.supervisor import SUPERVISOR


def spawn_supervisor(blueprint: Blueprint, names: Sequence[str], on_progress: Progress) -> None:
    """Start a supervisor in a session of its own and wait until it reports.

    Raises:
        FarmError: as the supervisor told it.
        FarmUnreachable: it ended without a word.
    """
    reading, writing = os.pipe()
    log_path = blueprint.folder.log(SUPERVISOR)
    argv = [sys.executable, "-m", "farm.local", str(blueprint.folder.root)]
    argv += ["--parts", ",".join(names), "--report-fd", str(writing)]
    with log_path.open("ab") as log:
        child = subprocess.Popen(
            argv,
            env={**os.environ, **blueprint.overrides},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[writing],
        )
    os.close(writing)
    with os.fdopen(reading) as report:
        outcome = _listen(report, on_progress)
    if outcome == "ready":
        child.returncode = 0  # it goes on without us
        return
    child.wait()
    if isinstance(outcome, Failure):
        raise FarmError.from_failure(outcome)
    raise FarmUnreachable(
        f"The supervisor ended with {child.returncode}. The end of its log:\n{log_tail(log_path)}",
        part=SUPERVISOR,
    )


def _listen(report: IO[str], on_progress: Progress) -> Failure | Literal["ready"] | None:
    """Pass progress on until the supervisor says how it ended; None when it never does."""
    for line in report:
        told = json.loads(line)
        if "failure" in told:
            return decode(Failure, told["failure"])
        if "ready" in told:
            return "ready"
        on_progress(told["progress"])
    return None
