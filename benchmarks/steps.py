"""What a step costs beyond its own work: control overhead, and the start of its sandboxed child.

Tiny data files are inspected one after the other on an idle farm. A step's overhead runs from the moment it was ready
to the moment its outcome was recorded, by the ledger's clock, less the time from the child's first line to its end, by
the supervisor's clock. Beside it: a Celery no-op round trip over a Redis of the same kind, and a bare sandboxed fork.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from celery import Celery

from benchmarks.figures import Figure
from benchmarks.stand import ENVIRONMENTS, Stand
from farm.client import Model
from workers.runtimes.reference_model import reference_model
from workers.sandbox import Call, Level, Limits, Sandbox

STEPS, WARM_UP = 60, 5
FORKS = 15
COLD_IMPORTS = 3
LOOK_S = 0.1
CODE_ROOT = Path(__file__).parents[1]
_RUN = re.compile(r"action=run .*?run_time_ms=([\d.]+) .*?start_ms=([\d.]+) step_id=(step-\w+)")
_LIMITS = Limits(wall_s=60.0, memory_bytes=1 << 30, disk_bytes=1 << 30, file_bytes=1 << 30)


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step: milliseconds from ready to recorded, of the child's own run, and to the child's first line."""

    total_ms: float
    run_ms: float
    start_ms: float

    @property
    def overhead_ms(self) -> float:
        return self.total_ms - self.run_ms


def measure(stand: Stand) -> list[Figure]:
    taken = step_times(stand)
    overheads = [step.overhead_ms for step in taken]
    round_trips = celery_round_trips(stand.info.redis)
    starts = [step.start_ms for step in taken]
    fork_ms, cold_ms = bare_fork_ms(stand.data), cold_import_ms()
    own_ms = median(step.run_ms for step in taken)
    return [
        _overhead("p50", 60.0, overheads, round_trips, own_ms),
        _overhead("p95", 150.0, overheads, round_trips, own_ms),
        Figure(
            "warm_step_start_ms",
            median(starts),
            "ms",
            aim=100.0,
            limit=fork_ms,
            limit_is="bare sandboxed fork",
            beside={"cold import of torch": cold_ms, "p95": float(np.percentile(starts, 95))},
        ),
    ]


def _overhead(name: str, aim: float, overheads: Sequence[float], round_trips: Sequence[float], own_ms: float) -> Figure:
    percent = int(name.removeprefix("p"))
    return Figure(
        f"step_overhead_{name}_ms",
        float(np.percentile(overheads, percent)),
        "ms",
        aim=aim,
        limit=float(np.percentile(round_trips, percent)),
        limit_is="Celery no-op round trip",
        beside={"the stage's own run": own_ms},
    )


def step_times(stand: Stand) -> list[StepTime]:
    """Inspect tiny files, one after the other; each job is refused for its data, so no other step follows.

    Nobody watches the jobs meanwhile, for answering watchers is not part of a step.
    """
    model = stand.data / "tiny.onnx"
    shutil.copy(reference_model("onnxruntime"), model)
    for number in range(STEPS + WARM_UP):
        file = stand.data / f"tiny-{number}.npz"
        np.savez(file, other=np.full(3, number))
        _await_end(stand, stand.client.submit(Model(model, calibration=file), "auto", runtimes=["onnxruntime"]).id)
    query = (
        "SELECT id, extract(epoch FROM ended - ready) * 1000 FROM step WHERE stage = 'inspect-npz'"
        " AND phase = 'succeeded' ORDER BY ready"
    )
    runs = {step: (run, start) for step, run, start in runs_in(stand.data / "logs" / "worker.log")}
    found = stand.rows(query)[WARM_UP:]
    return [StepTime(float(total), *runs[step]) for step, total in found]


def _await_end(stand: Stand, job: str) -> None:
    pause = threading.Event()
    while not stand.rows("SELECT 1 FROM job WHERE id = :job AND ended IS NOT NULL", {"job": job}):
        pause.wait(LOOK_S)


def runs_in(log: Path) -> Iterator[tuple[str, float, float]]:
    for found in _RUN.finditer(log.read_text(errors="replace")):
        yield found[3], float(found[1]), float(found[2])


def celery_round_trips(redis: str, count: int = 100) -> list[float]:
    """Time no-op tasks in milliseconds, with results, on a worker of its own that has nothing else to do."""
    worker = subprocess.Popen([sys.executable, "-m", "benchmarks.noop", redis], stdout=subprocess.DEVNULL)
    try:
        from benchmarks.noop import make_noop_app

        app = make_noop_app(redis)
        _call(app, timeout_s=30.0)
        return [_call(app, timeout_s=5.0) for _ in range(count)]
    finally:
        worker.terminate()
        worker.wait()


def _call(app: Celery, *, timeout_s: float) -> float:
    started = time.perf_counter()
    app.send_task("bench.noop").get(timeout=timeout_s, interval=0.001)
    return (time.perf_counter() - started) * 1000


def bare_fork_ms(folder: Path) -> float:
    """Start children that do nothing from a warm zygote, from request to first line."""
    environment = ENVIRONMENTS / "onnxruntime"
    levels = (Level.FULL, Level.PARTIAL)
    with Sandbox(folder=folder / "bare", accept=levels, code_root=CODE_ROOT) as sandbox:
        sandbox.warm(environment)
        starts = []
        for number in range(FORKS):
            work = folder / f"bare-{number}"
            work.mkdir(mode=0o711)
            call = Call(
                environment=environment, entry="workers.sandbox.empty:main", work=work, readable=(), limits=_LIMITS
            )
            starts.append(sandbox.run(call).start_ms or 0.0)
    return median(starts)


def cold_import_ms() -> float:
    """Import PyTorch in a new interpreter, which is what a step without a zygote would begin with."""
    command = [str(ENVIRONMENTS / "builder" / "bin" / "python"), "-c", "import torch"]
    return median(_seconds(command) * 1000 for _ in range(COLD_IMPORTS))


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started
