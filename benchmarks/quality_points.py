"""Measure contenders in turn, hold their outputs against the source's, and the answer against every other point."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks.quality_contenders import ROOT, Contender, Workshop
from benchmarks.quality_models import Case
from benchmarks.stand import ENVIRONMENTS, Say
from farm.domain.constraint import parse_constraint
from workers.runtimes import load_runtimes
from workers.sandbox.environment import TOOLCHAINS
from workers.stages.compare.numerics import OutputError

ROUNDS = 3
WITHIN_S = 300.0
SLACK, SLACK_DB = 1.03, 0.5
"""By how much two points of one quality may differ: in latency, and in fidelity."""
BASE = ("onnxruntime", "float32")
ANSWER = "the farm's answer"


@dataclass(frozen=True, slots=True)
class Point:
    """What a contender reached; times in milliseconds per call."""

    name: str
    cell: tuple[str, str] | None
    cpu_ms: float | None = None
    wall_ms: float | None = None
    sqnr_db: float | None = None
    mask_iou: float | None = None
    megabytes: float | None = None
    admits: bool = False
    error: str | None = None


def measured(shop: Workshop, contenders: Sequence[Contender], say: Say) -> list[Point]:
    """Run every file on the report's samples once, then time all of them in turn, `ROUNDS` times."""
    expected = _outputs(shop, Contender("the source", shop.case.runtime, shop.case.source), source=True)
    if isinstance(expected, str):
        raise RuntimeError(f"The source of {shop.case.name} does not run: {expected}")
    faithful = {one.name: _fidelity(shop, one, expected) for one in contenders}
    times: dict[str, list[dict[str, float]]] = {}
    able = [one for one in contenders if not isinstance(faithful[one.name], str)]
    for number in range(ROUNDS):
        say(f"{shop.case.name}: round {number + 1} of {ROUNDS}")
        for one in able:
            told = _process(shop, one, {})
            if isinstance(told, dict):
                times.setdefault(one.name, []).append(told)
    return [_point(one, faithful[one.name], times.get(one.name, [])) for one in contenders]


def judge(case: Case, points: Sequence[Point]) -> dict[str, Any]:
    """Hold the farm's answer against every other point that keeps the constraint."""
    least_db = parse_constraint(case.constraint).bound
    answer = next((one for one in points if one.name.startswith(ANSWER)), None)
    base = next((one.cpu_ms for one in points if one.cell == BASE and one.cpu_ms and one is not answer), None)
    told = [
        {
            **asdict(one),
            "speed_up": base / one.cpu_ms if base and one.cpu_ms else None,
            "relation": _relation(answer, one, least_db),
        }
        for one in points
    ]
    better = [one["name"] for one in told if str(one["relation"]).startswith("BETTER")]
    wrong = [one.name for one in points if one.cell and one.error]
    is_reached = answer is not None and answer.error is None and not better
    verdict = "matched or dominated every point" if is_reached else f"better: {', '.join(better) or 'no answer'}"
    return {
        "case": case.name,
        "constraint": case.constraint,
        "reached": is_reached,
        "verdict": verdict,
        "farm_files_that_do_not_run": wrong,
        "slower_without_saying_so": _silent(points),
        "by_hand_in_the_facts": case.by_hand,
        "points": sorted(told, key=lambda one: (not str(one["name"]).startswith(ANSWER), one["cpu_ms"] or 1e9)),
    }


def _silent(points: Sequence[Point]) -> list[str]:
    """Name the farm's results that are slower than the same runtime's float32 and do not say so."""
    floats = {one.cell[0]: one.cpu_ms for one in points if one.cell and one.cell[1] == "float32" and one.cpu_ms}
    return [
        one.name
        for one in points
        if one.cell and one.cpu_ms and one.cpu_ms > SLACK * floats.get(one.cell[0], one.cpu_ms) and not one.admits
    ]


def _relation(answer: Point | None, one: Point, least_db: float) -> str:
    if one.error is not None:
        return f"no file that runs: {one.error}"
    if one is answer or answer is None or one.cpu_ms is None or one.sqnr_db is None:
        return ""
    if one.sqnr_db < least_db - SLACK_DB:
        return "breaks the constraint"
    if answer.cpu_ms is None or answer.sqnr_db is None:
        return "BETTER: the answer has no figures"
    if one.cpu_ms < answer.cpu_ms / SLACK:
        return f"BETTER: {answer.cpu_ms / one.cpu_ms:.2f}x as fast"
    if one.cpu_ms <= answer.cpu_ms and one.sqnr_db > answer.sqnr_db + SLACK_DB:
        return f"BETTER: as fast, {one.sqnr_db - answer.sqnr_db:.1f} dB nearer"
    slower = one.cpu_ms / answer.cpu_ms
    return f"{slower:.2f}x the answer's time, {one.sqnr_db - answer.sqnr_db:+.1f} dB"


def _point(one: Contender, fidelity: tuple[float, float | None] | str, times: Sequence[dict[str, float]]) -> Point:
    point = Point(one.name, one.cell, megabytes=one.megabytes, admits=one.admits)
    if isinstance(fidelity, str) or not times:
        return replace(point, error=fidelity if isinstance(fidelity, str) else "it was never timed")
    return replace(
        point,
        cpu_ms=median(time["cpu_us"] for time in times) / 1e3,
        wall_ms=median(time["wall_us"] for time in times) / 1e3,
        sqnr_db=fidelity[0],
        mask_iou=fidelity[1],
    )


def _fidelity(shop: Workshop, one: Contender, expected: dict[str, Any]) -> tuple[float, float | None] | str:
    """Return the worst output's SQNR in dB, and the overlap of its mask with the source's; or why there is none."""
    found = _outputs(shop, one) if one.path else one.error or "no file"
    if isinstance(found, str):
        return found
    pairs = list(zip(expected.values(), found.values(), strict=True))
    if set(found) == set(expected):
        pairs = [(expected[name], found[name]) for name in expected]
    errors = [OutputError() for _ in pairs]
    for error, (wanted, actual) in zip(errors, pairs, strict=True):
        if wanted.shape != actual.shape:
            return f"an output has shape {actual.shape[1:]} instead of {wanted.shape[1:]}"
        if not np.isfinite(actual).all():
            return "an output holds values that are not finite"
        error.add(wanted, actual)
    overlap = None
    if shop.case.mask_above is not None:
        wanted, actual = (array > shop.case.mask_above for array in pairs[0])
        overlap = float((wanted & actual).sum() / max(1, (wanted | actual).sum()))
    return min(error.sqnr_db for error in errors), overlap


def _outputs(shop: Workshop, one: Contender, *, source: bool = False) -> dict[str, Any] | str:
    into = shop.folder / "outputs.npz"
    told = _process(shop, one, {"outputs": str(into)}, source=source)
    if isinstance(told, str):
        return told
    with np.load(into, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _process(shop: Workshop, one: Contender, more: dict[str, Any], *, source: bool = False) -> dict[str, float] | str:
    """Start a fresh process for one contender; return what it told, or why it failed."""
    runtime = load_runtimes()[one.runtime]
    python = ENVIRONMENTS / (runtime.builds_in if source else runtime.environment) / "bin" / "python"
    request = shop.folder / "request.json"
    told = {"runtime": one.runtime, "model": str(one.path), "contract": one.contract, "samples": str(shop.report)}
    request.write_text(json.dumps(told | more))
    try:
        done = subprocess.run(
            [str(python), "-m", "benchmarks.contenders.process", str(request)],
            env={**os.environ, **TOOLCHAINS, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {WITHIN_S:g} s"
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:200]
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
