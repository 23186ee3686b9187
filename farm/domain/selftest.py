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
SOUND_DB = 60.0
"""SQNR (dB) of a float32 reference under which a host computes otherwise than its peers.

Two sound processors sum the same products in another order and fuse other multiplications: on these models that leaves
100 dB and more (2^-24 a rounding is 144 dB). 60 dB is an error of a thousandth of the signal: no order of additions
makes it, halves or integers in place of floats do. It is where the farm calls any float32 result degraded.
"""
IN_INTEGERS = ("litert",)
"""Runtimes under which the pinned model computes in integers: one quantum of its output is no fault of a host, and what
is worse than that falls under the floor that every float32 result has (30 dB)."""
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
        drifts: its median left the host's history, of which it is no part then.
    """

    verdict: str
    reasons: tuple[str, ...] = ()
    quarantines: bool = False
    repeats: bool = False
    drifts: bool = False


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
        "runtime": result.get("target_runtime"),
        "failure": result.get("failure_type"),
        "message": result.get("message"),
        "failed_on": _failed_on(result),
    }


def _failed_on(result: Mapping[str, Any]) -> str | None:
    """Name the host of the step that failed, or of the comparison that fell short; None where nobody can tell."""
    code = result.get("failure_type")
    steps = result.get("steps") or () if code else ()
    broken = [step for step in steps if step.get("state") == "failed" and step.get("failure_type", code) == code]
    figures = (result.get("numerics") or {}).get("by_stage") or () if code in WRONG else ()
    compared = [figure for figure in figures if "not_checked" not in figure]
    short = [figure for figure in compared if (figure.get("sqnr_db") or 0.0) < figure["limit_db"]]
    host: str | None = next((one.get("host") for one in (*broken, *short)), None)
    return host


def judge(host: str, figures: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Finding:
    """Judge one self-test of a host by its figures and those of its earlier ones under the same runtime, newest first.

    What broke on another host, where the reference model is read and its expected outputs are computed, says nothing
    of this one.
    """
    failure, message = figures.get("failure"), figures.get("message") or ""
    if failure is not None and (elsewhere := figures.get("failed_on")) not in (None, host):
        return Finding("inconclusive", (f"A step of the test failed on {elsewhere}, not on this host: {message}",))
    if failure in WRONG:
        return Finding("failed", (f"It computes otherwise than its peers: {message}",), quarantines=True)
    if failure in CRASHED:
        return Finding("failed", (f"It breaks the reference model's steps: {message}",), quarantines=True)
    if failure is not None:
        return Finding("inconclusive", (f"The test could not be made: {message}",))
    sqnr_db = figures.get("sqnr_db")
    if sqnr_db is None:
        return Finding("inconclusive", ("Its outputs were not compared with anything.",))
    if sqnr_db < SOUND_DB and figures.get("runtime") not in IN_INTEGERS:
        told = f"The float32 reference model reaches {sqnr_db:.1f} dB here; {SOUND_DB:.0f} dB are needed."
        return Finding("failed", (f"It computes otherwise than its peers: {told}",), quarantines=True)
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
    return Finding("failed", (told,), quarantines=again, repeats=not again, drifts=True)
