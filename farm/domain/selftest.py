"""What a host's self-test says of it. Pure.

The pinned reference model is measured on the host against itself (A/A): how much two runs of the same thing differ
there is its noise floor, and a median that left the host's own history is a drift. Its outputs are held against those
of the build host that ran the same file.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DRIFT_MIN = 0.10
"""A median that moved by less is no drift: reboots and kernels move it by some percent."""
HISTORY_MIN, HISTORY_MAX = 3, 10
"""Valid self-tests that a drift is judged by."""
WRONG = ("numerics-broken", "artifact-broken", "contract-mismatch")
CRASHED = ("tool-crashed", "host-lost", "bad-measurement", "host-error", "tool-timed-out", "tool-out-of-memory")


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a self-test.

    Attributes:
        verdict: passed, inconclusive or failed.
        reasons: full sentences.
        quarantines: the host should leave rotation.
        repeats: one more test decides; a single one may have met a bad moment.
    """

    verdict: str
    reasons: tuple[str, ...] = ()
    quarantines: bool = False
    repeats: bool = False


def figures_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Take out of a job's result what the history keeps."""
    summary, conditions = result.get("execution_summary") or {}, result.get("conditions") or {}
    numerics = result.get("numerics") or {}
    return {
        "p50_us": summary.get("p50"),
        "reference_median_us": summary.get("reference_median_us"),
        "noise_floor_ratio": summary.get("noise_floor_ratio"),
        "valid": bool(conditions.get("valid")),
        "emulated": conditions.get("emulated"),
        "invalid_reasons": list(conditions.get("reasons") or ()),
        "sqnr_db": numerics.get("sqnr_db"),
        "failure": result.get("failure_type"),
        "message": result.get("message"),
    }


def judge(figures: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Finding:
    """Judge one self-test by its figures and those of the host's earlier ones under the same runtime, newest first."""
    failure, message = figures.get("failure"), figures.get("message") or ""
    if failure in WRONG:
        return Finding("failed", (f"It computes otherwise than its peers: {message}",), quarantines=True)
    if failure in CRASHED:
        return Finding("failed", (f"It breaks the reference model's steps: {message}",), quarantines=True)
    if failure is not None:
        return Finding("inconclusive", (f"The test could not be made: {message}",))
    if figures.get("emulated"):
        return Finding("passed", ("Emulated: only its outputs were judged, its times say nothing.",))
    if not figures.get("valid"):
        reasons = ", ".join(figures.get("invalid_reasons") or ()) or "no reason given"
        return Finding("inconclusive", (f"The measurement is not valid: {reasons}.",))
    return _drift(figures, history)


def _drift(figures: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Finding:
    steady = [h for h in history if h.get("valid") and h.get("p50_us") and not h.get("drifts")][:HISTORY_MAX]
    if len(steady) < HISTORY_MIN:
        return Finding("passed")
    usual_us = statistics.median(float(h["p50_us"]) for h in steady)
    floors = [float(h["noise_floor_ratio"]) for h in (figures, *steady) if h.get("noise_floor_ratio") is not None]
    limit = max([DRIFT_MIN, *floors])
    ratio = float(figures["p50_us"]) / usual_us
    if abs(math.log(ratio)) <= math.log1p(limit):
        return Finding("passed")
    told = (
        f"The reference model takes {float(figures['p50_us']):.0f} µs, {ratio:.2f} times its median of the last "
        f"{len(steady)} self-tests ({usual_us:.0f} µs); the limit is {limit:.0%}."
    )
    again = bool(history and history[0].get("drifts"))
    return Finding("failed", (told,), quarantines=again, repeats=not again)
