"""The demo's job against a plain script that makes the same calls, and the job submitted again.

A first job fills the farm with measurements. Then every step but those is forgotten and the job runs again, so that
what is timed, from `farm submit` to its end, is inspecting, converting, quantizing and comparing, not measuring. The
script makes the calls of the steps that the farm ran. Farm and script take turns, both held to one core, where doing
two things at once gains nothing; then the farm runs once more with all cores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure
from benchmarks.stand import ENVIRONMENTS, Say, Stand
from demo.models import prepare
from farm.domain.artifact import Artifact
from farm.domain.codec import decode, encode
from farm.domain.errors import FarmBug
from farm.domain.plan import PlannedStep
from farm.transfer import hash_file
from workers.environments import names
from workers.sandbox.environment import TOOLCHAINS

DEMO = Path(".farm") / "demo"
ROUNDS = 2
RESUBMISSIONS = 7
CODE_ROOT = Path(__file__).parents[1]
SURROUNDINGS = {**TOOLCHAINS, "OPENBLAS_NUM_THREADS": "1"}
"""What the farm's own stages find set, and a careful script sets."""


def measure(stand: Stand, say: Say) -> list[Figure]:
    job_file = prepare(DEMO, say)

    def farm() -> dict[str, Any]:
        return _submit(stand, job_file)

    say("the demo's job, with its measurements")
    first_s, report = timed(farm)
    again = [timed(farm) for _ in range(RESUBMISSIONS)]
    inside_s = [_inside_s(stand, told["job"]) for _, told in again]
    worklist = _worklist(stand, report["job"], job_file.parent)
    farm_s, script_s = _taking_turns(stand, farm, worklist, say)
    stand.forget_steps()
    say("the farm on all cores")
    free_s, _ = timed(farm)
    return [
        Figure(
            "conversion_vs_script_ratio",
            median(farm_s) / median(script_s),
            "ratio",
            aim=1.10,
            limit=1.0,
            limit_is="the plain script",
            beside={
                "farm s, one core": median(farm_s),
                "script s, one core": median(script_s),
                "farm s, all cores": free_s,
            },
        ),
        Figure(
            "resubmission_s",
            median(seconds for seconds, _ in again),
            "s",
            aim=1.0,
            limit=first_s,
            limit_is="s for the first time",
            beside={"from accepted to ended": median(inside_s)},
        ),
    ]


def _inside_s(stand: Stand, job: str) -> float:
    ((seconds,),) = stand.rows("SELECT extract(epoch FROM ended - created) FROM job WHERE id = :job", {"job": job})
    return float(seconds)


def _taking_turns(
    stand: Stand, farm: Callable[[], object], worklist: Path, say: Say
) -> tuple[list[float], list[float]]:
    farm_s, script_s = [], []
    with stand.on_core(min(os.sched_getaffinity(0))):
        for number in range(ROUNDS):
            stand.forget_steps()
            say(f"farm and script on one core, round {number + 1}")
            farm_s.append(timed(farm)[0])
            script_s.append(timed(lambda: _run_script(worklist, stand.data / "script"))[0])
    return farm_s, script_s


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def _submit(stand: Stand, job_file: Path) -> dict[str, Any]:
    report = stand.submit("--file", str(job_file))
    if report.get("state") != "succeeded":
        raise FarmBug(f"The demo's job ended as {report.get('state')}: {json.dumps(report)[:2000]}")
    return report


def _run_script(worklist: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.plain_script", str(worklist), str(folder)]
    told = {**os.environ, **SURROUNDINGS, "PYTHONPATH": str(CODE_ROOT)}
    done = subprocess.run(command, env=told, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise FarmBug(f"The plain script failed: {done.stderr[-2000:]}")


def _worklist(stand: Stand, job: str, folder: Path) -> Path:
    """Write down the calls that a job's steps made, measurements left out."""
    query = (
        "SELECT step.planned FROM step JOIN job_step ON job_step.step_id = step.id"
        " WHERE job_id = :job AND step.phase = 'succeeded' AND step.kind <> 'measure'"
    )
    planned = [decode(PlannedStep, row) for (row,) in stand.rows(query, {"job": job})]
    sources = {hash_file(path).sha256: path.resolve() for path in folder.rglob("*") if path.is_file()}
    inputs = stand.data / "inputs"
    calls = [_call(step, sources, inputs) for step in in_order(planned)]
    path = stand.data / "worklist.json"
    path.write_text(json.dumps({"environments": str(ENVIRONMENTS), "calls": calls}))
    return path


def in_order(planned: Iterable[PlannedStep]) -> list[PlannedStep]:
    """Put every step behind those it needs."""
    left = {step.key: step for step in planned}
    ordered: list[PlannedStep] = []
    while left:
        ready = [step for step in left.values() if not any(need in left for need in step.needs)]
        if not ready:
            raise FarmBug(f"Steps need one another: {', '.join(step.stage for step in left.values())}.")
        ordered += sorted(ready, key=lambda step: names().index(step.environment))
        for step in ready:
            del left[step.key]
    return ordered


def _call(step: PlannedStep, sources: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    given: Sequence[Any] = step.inputs
    return {
        "key": step.key,
        "stage": step.stage,
        "environment": step.environment,
        "options": encode(step.options),
        "profile": encode(step.profile),
        "files": {i.role: str(_laid_out(i.artifact, sources, folder)) for i in given if i.artifact},
        "made": {i.role: [i.step, i.output] for i in given if i.step},
    }


def _laid_out(artifact: Artifact, sources: Mapping[str, Path], folder: Path) -> Path:
    """Lay an artifact's files out as a stage expects them; links would be no private copy."""
    root = folder / artifact.digest
    for file in artifact.files:
        target = root / file.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sources[file.sha256], target)
    return root if artifact.is_tree else root / artifact.files[0].name
