"""Real processes on a loaded machine: equals are rarely told apart, ten percent more work is nearly always found."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from farm.domain.statistics.change import Change, Measured, compare
from farm.domain.statistics.stability import StabilityRule
from workers.runtimes.reference_model import reference_model

pytestmark = [pytest.mark.slow, pytest.mark.toolchain]

REPOSITORY = Path(__file__).parents[2]
MEASUREMENTS = 24
PAIRS = 200
SECONDS = 0.2
BURN = "while True: sum(i * i for i in range(1000))"


@dataclass
class Taken:
    """Samples per process, in rounds: the reference, then each model."""

    times: dict[str, list[list[float]]] = field(default_factory=dict)
    cpu_times: dict[str, list[list[float]]] = field(default_factory=dict)

    def add(self, name: str, told: dict[str, list[float]]) -> None:
        self.times.setdefault(name, []).append(told["wall"])
        self.cpu_times.setdefault(name, []).append(told["cpu"])

    def measurement(self, name: str, number: int) -> Measured:
        processes = StabilityRule().processes_max
        part = slice(number * processes, (number + 1) * processes)
        return Measured(
            self.times[name][part],
            self.cpu_times[name][part],
            self.times["reference"][part],
            self.cpu_times["reference"][part],
            is_valid=False,
        )


@contextmanager
def other_work() -> Iterator[None]:
    """Keep every core busy with something else."""
    burning = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def timed(model: Path) -> dict[str, list[float]]:
    python = REPOSITORY / ".envs" / "onnxruntime" / "bin" / "python"
    command = [python, REPOSITORY / "tests" / "timed_process.py", "onnxruntime", model, str(SECONDS)]
    surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "ORT_DISABLE_TELEMETRY": "1"}
    told: dict[str, list[float]] = json.loads(subprocess.check_output(command, env=surroundings, timeout=120))
    return told


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Taken:
    folder = tmp_path_factory.mktemp("models")
    builder = REPOSITORY / ".envs" / "builder" / "bin" / "python"
    subprocess.run([builder, REPOSITORY / "tests" / "measured_models.py", folder], check=True, timeout=120)
    models = {
        "reference": reference_model("onnxruntime"),
        "base": folder / "base.onnx",
        "tenth_more": folder / "tenth_more.onnx",
    }
    found = Taken()
    with other_work():
        for _ in range(MEASUREMENTS * StabilityRule().processes_max):
            for name, model in models.items():
                found.add(name, timed(model))
    return found


@pytest.mark.timeout(3600)
def test_two_hundred_pairs_of_equals_give_at_most_five_percent_false_alarms(taken: Taken) -> None:
    generator = random.Random(1)
    numbers = list(itertools.combinations(range(MEASUREMENTS), 2))
    alarms = 0
    for name in ("base", "tenth_more"):
        for first, second in generator.sample(numbers, PAIRS // 2):
            told = compare(taken.measurement(name, first), taken.measurement(name, second))
            alarms += told.change is not Change.INCONCLUSIVE
    assert alarms <= 0.05 * PAIRS


@pytest.mark.timeout(3600)
def test_ten_percent_more_work_is_found_in_95_of_a_hundred(taken: Taken) -> None:
    generator = random.Random(2)
    numbers = list(itertools.product(range(MEASUREMENTS), repeat=2))
    found = sum(
        compare(taken.measurement("base", first), taken.measurement("tenth_more", second)).change is Change.REGRESSED
        for first, second in generator.sample(numbers, PAIRS)
    )
    assert found >= 0.95 * PAIRS
