"""Measure contenders in turn, and hold their outputs against the source's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.quality_contenders import ROOT, Contender, Workshop
from benchmarks.quality_judge import ANSWER, SLACK_DB, Point
from benchmarks.quality_models import Case, CaseFailed
from benchmarks.stand import ENVIRONMENTS, Say
from farm.domain.constraint import parse_constraint
from farm.domain.recipe import BASELINE
from workers.runtimes import load_runtimes
from workers.sandbox.environment import TOOLCHAINS
from workers.stages.compare.numerics import OutputError

ROUNDS = 3
FAR = 1.3
"""Times the answer's time from which on a file is timed once only: more rounds would not make it a rival."""
WITHIN_S = 120.0

Fidelity = tuple[float, float | None]
"""SQNR of the worst output in dB, and the overlap of its mask with the source's where it is one."""


def measured(shop: Workshop, contenders: Sequence[Contender], say: Say) -> list[Point]:
    """Run every file on the report's samples once, then time them in turn, `ROUNDS` times at most.

    Raises:
        CaseFailed: the source itself does not run.
    """
    expected = _outputs(shop, Contender("the source", shop.case.runtime, shop.case.source), source=True)
    if isinstance(expected, str):
        raise CaseFailed(f"The source of {shop.case.name} does not run: {expected}")
    faithful: dict[str, Fidelity | str] = {}
    for one in contenders:
        faithful[one.name] = found = _fidelity(shop, one, expected)
        say(f"{shop.case.name}: {one.name}: {found if isinstance(found, str) else f'{found[0]:.1f} dB'}")
    times: dict[str, list[dict[str, float]]] = {}
    errors: dict[str, str] = {}
    for number in range(ROUNDS):
        say(f"{shop.case.name}: round {number + 1} of {ROUNDS}")
        for one in contenders:
            found = faithful[one.name]
            if isinstance(found, str) or one.name in errors:
                continue
            if number and not races_on(one, shop.case, found[0], times):
                continue
            told = _process(shop, one, {})
            if isinstance(told, str):
                errors[one.name] = f"it ran once, and then not: {told}"
            else:
                times.setdefault(one.name, []).append(told)
    return [_point(one, errors.get(one.name, faithful[one.name]), times.get(one.name, [])) for one in contenders]


def races_on(one: Contender, case: Case, fidelity: float, times: Mapping[str, list[dict[str, float]]]) -> bool:
    """Tell whether more rounds may change what is said of a file: who is far off, or not near enough, has one.

    A file that was slower than its runtime's float32 and does not say so has them all: one round may be chance.
    """
    answer = next((found for name, found in times.items() if name.startswith(ANSWER)), None)
    if _is_suspect(one, times):
        return True
    if one.name.startswith(ANSWER) or one.is_front or (one.cell is not None and one.cell[1] == BASELINE):
        return True
    if answer is None or fidelity < parse_constraint(case.constraint).bound - SLACK_DB:
        return answer is None
    return one.name in times and times[one.name][0]["cpu_us"] <= FAR * answer[0]["cpu_us"]


def _is_suspect(one: Contender, times: Mapping[str, list[dict[str, float]]]) -> bool:
    if one.cell is None or one.admits or one.name not in times:
        return False
    beside = times.get(f"{one.cell[0]} {BASELINE}")
    return beside is not None and times[one.name][0]["cpu_us"] > beside[0]["cpu_us"]


def _point(one: Contender, fidelity: Fidelity | str, times: Sequence[dict[str, float]]) -> Point:
    point = Point(
        one.name,
        one.cell,
        megabytes=one.megabytes,
        admits=one.admits,
        unmeasured=one.unmeasured,
        is_file=one.path is not None,
        is_absent=one.is_absent,
        is_front=one.is_front,
    )
    if isinstance(fidelity, str) or not times:
        return replace(point, error=fidelity if isinstance(fidelity, str) else "it was never timed")
    return replace(
        point,
        cpu_ms=min(time["cpu_us"] for time in times) / 1e3,
        wall_ms=min(time["wall_us"] for time in times) / 1e3,
        rounds_ms=tuple(time["cpu_us"] / 1e3 for time in times),
        sqnr_db=fidelity[0],
        mask_iou=fidelity[1],
    )


def _fidelity(shop: Workshop, one: Contender, expected: dict[str, Any]) -> Fidelity | str:
    """Return the worst output's SQNR in dB, and the overlap of its mask with the source's; or why there is none."""
    found = _outputs(shop, one) if one.path else one.error or "no file"
    if isinstance(found, str):
        return found
    if len(found) != len(expected):
        return f"it has {len(found)} outputs instead of {len(expected)}"
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
