"""The two Celery tasks: a step, and a measurement, which needs the host for itself."""

from __future__ import annotations

from celery import Celery

from farm.queue import MEASURE_TASK, STEP_TASK
from workers.runner import Runner


def register(app: Celery, runner: Runner) -> None:
    """Bind the tasks to this host's runner."""

    def run_step(step: str, attempt: int) -> str:
        return runner.run(step, attempt, measures=False)

    def run_measurement(step: str, attempt: int) -> str:
        return runner.run(step, attempt, measures=True)

    app.task(run_step, name=STEP_TASK)
    app.task(run_measurement, name=MEASURE_TASK)
