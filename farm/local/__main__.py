"""The supervisor as a process of its own: `python -m farm.local DIR …`, started by `Stack.up`.

It tells its parent by JSON lines on a pipe: {"progress": …}*, then {"ready": true} or {"failure": …}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from farm.domain.codec import encode
from farm.domain.errors import FarmError
from farm.local.blueprint import Blueprint
from farm.local.folder import Folder
from farm.local.supervisor import Supervisor


class _Report:
    """Lines to the parent while it listens, and to the log."""

    def __init__(self, fd: int) -> None:
        self._pipe: IO[str] | None = os.fdopen(fd, "w")

    def progress(self, line: str) -> None:
        self.log(line)
        self.send({"progress": line})

    def log(self, line: str) -> None:
        sys.stderr.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")
        sys.stderr.flush()

    def send(self, told: Mapping[str, object]) -> None:
        if self._pipe is None:
            return
        try:
            self._pipe.write(json.dumps(told) + "\n")
            self._pipe.flush()
        except BrokenPipeError:  # the parent is gone; the stack stays
            self._pipe = None

    def ready(self) -> None:
        self.send({"ready": True})
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m farm.local", description="Supervise an embedded stack.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--parts", required=True, help="names, separated by commas")
    parser.add_argument("--report-fd", type=int, required=True, help="the pipe to the parent")
    given = parser.parse_args()
    report = _Report(given.report_fd)
    try:
        supervisor = Supervisor(Blueprint(Folder(given.data)), given.parts.split(","), report.progress)
        supervisor.run(lambda _info: report.ready())
    except FarmError as error:
        report.log(str(error))
        report.send({"failure": encode(error.failure)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
