"""How long the farm's own code takes to import, as a whole process, beside an empty one."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from benchmarks.figures import Figure

ROUNDS = 7
WHAT = "import farm.cli.main, farm.api.app"


def measure() -> list[Figure]:
    taken = [
        (_seconds(WHAT), _seconds("import fastapi, sqlalchemy, typer, httpx"), _seconds("pass")) for _ in range(ROUNDS)
    ]
    ours, libraries, empty = (median(column) for column in zip(*taken, strict=True))
    beside = {"an empty process": empty}
    return [Figure("farm_import_s", ours, "s", 1.0, libraries, "s for its libraries alone", beside)]


def _seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started
