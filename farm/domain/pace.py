"""How fast one result is beside another: on one host by their times, on two by the reference model's beside them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farm.domain.measurement import versus_float
from farm.domain.statistics.change import PROCESSES_MIN, Change, Comparison, Measured, compare
from farm.domain.statistics.noise import FLOOR_MIN

Body = Mapping[str, Any]
"""A result in the fields of report.schema.json: its `execution_summary` and `conditions`."""


ACROSS_HOSTS = "Measured on host "
"""What the note begins with where two hosts measured."""
MAY_BE_SLOWER = "It may be slower than float32: "
"""What a note says where the times at hand are longer than float32's, and that can't be told for certain."""

PACED = ("p50", "p90", "p99")
"""The times that a host's pace divides; how long a file takes to load follows its disk as well."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A result's speed beside that of its float32.

    Attributes:
        ratio: float's time / its own: above 1 is faster; None where they can't be compared.
        is_slower: the difference is told from noise (`farm.domain.statistics.change`).
        note: what a reader must know of the ratio, or of why there is none.
    """

    ratio: float | None = None
    is_slower: bool = False
    note: str | None = None


def beside_float(ours: Body, theirs: Body) -> Pace:
    """Hold a result against the float32 result of its runtime and target.

    Where two hosts measured them, each time is divided by that of the reference model, which ran beside both.
    """
    if not (_is_valid(ours) and _is_valid(theirs)):
        return Pace(note=_doubtful(ours, theirs))
    hosts = host_of(ours), host_of(theirs)
    mine, other = ours["execution_summary"], theirs["execution_summary"]
    ratio, note = versus_float(mine, other), None
    if hosts[0] != hosts[1]:
        levels = _reference(ours), _reference(theirs)
        apart = f"{ACROSS_HOSTS}{hosts[0]}, its float32 on host {hosts[1]}"
        if ratio is None or levels[0] is None or levels[1] is None:
            return Pace(note=f"{apart}, and no reference model ran on both: their times are not compared.")
        ratio, note = ratio * levels[0] / levels[1], f"{apart}: both were divided by their reference model's time."
    if min(len(mine["all_inference_times"]), len(other["all_inference_times"])) < PROCESSES_MIN:
        return Pace(ratio, note=note)
    told = _told(_read(other), _read(mine), one_host=hosts[0] == hosts[1])
    if told.change is not Change.INCONCLUSIVE:
        return Pace(ratio, told.change is Change.REGRESSED, note)
    margin = max(told.floor_ratio, math.sqrt(told.interval[1] / told.interval[0]) - 1)
    same = f"As fast as float32 within {margin:.0%}, by which such measurements vary."
    if ratio is not None and ratio * (1 + FLOOR_MIN) < 1:
        same = f"{MAY_BE_SLOWER}it took {1 / ratio:.2f}x its time, and such measurements vary by {margin:.0%}."
    return Pace(ratio, note=f"{note} {same}" if note else same)


def _told(before: Measured, after: Measured, *, one_host: bool) -> Comparison:
    """Compare times as ratios of the reference model's, and as they are where that tells nothing and nothing hinders.

    A reference model that varies more than the file hides a difference that the times alone show. They may be held
    against each other where one host took both and the reference model was as fast beside the one as beside the other.
    """
    told = compare(before, after)
    if told.change is not Change.INCONCLUSIVE or not (one_host and told.relative_to_reference):
        return told
    host = compare(Measured(before.references), Measured(after.references), same_reference=False)
    if abs(math.log(host.ratio)) > math.log1p(FLOOR_MIN):
        return told
    alone = compare(before, after, same_reference=False)
    return told if alone.change is Change.INCONCLUSIVE else alone


def _doubtful(ours: Body, theirs: Body) -> str | None:
    """Say that a result can't be held against float32, and where its times are longer all the same.

    None where a time was not taken, on an emulated host, where it says nothing, and where only the result's own times
    are in doubt, which its verdict says.
    """
    summaries = [body.get("execution_summary") for body in (ours, theirs)]
    reasons = [(body.get("conditions") or {}).get("reasons") or ["no reason told"] for body in (ours, theirs)]
    if not all(summaries) or any("emulated" in one for one in reasons):
        return None
    names = ("its own measurement", "that of float32")
    told = " and ".join(
        f"{name} does not count ({', '.join(why)})"
        for name, body, why in zip(names, (ours, theirs), reasons, strict=True)
        if not _is_valid(body)
    )
    ratio = versus_float(*summaries) if host_of(ours) == host_of(theirs) else None
    if ratio is not None and ratio * (1 + FLOOR_MIN) < 1:
        return f"{MAY_BE_SLOWER}it took {1 / ratio:.2f}x its time, but {told}."
    return f"Whether it is faster than float32 is not known: {told}." if _is_valid(ours) else None


def noise_of(*bodies: Body) -> float:
    """Return by which share the times of results may differ though they are equally fast: the largest floor of all."""
    floors = [(body.get("execution_summary") or {}).get("noise_floor_ratio") or 0.0 for body in bodies]
    return max(FLOOR_MIN, *floors)


def factors(bodies: Sequence[Body]) -> list[float | None]:
    """Say for each result by what to divide its times, so that those of one target's hosts may be compared.

    A host's factor is how much longer it takes for the reference models than the host that measured most of the
    target's results; of several runtimes it is the median. None where the two share no reference model.
    """
    base = {target: busiest(bodies, target) for target in {body.get("target") for body in bodies}}
    return [_factor(bodies, body, base[body.get("target")]) for body in bodies]


def at_pace(body: Body, factor: float | None) -> Body:
    """Give a result whose inference times are what the base host would have taken; unchanged where nobody can tell."""
    summary = body.get("execution_summary")
    if not summary or factor in (None, 1.0):
        return body
    scaled = {name: summary[name] / factor for name in PACED if summary.get(name) is not None}
    return {**body, "execution_summary": {**summary, **scaled}}


def host_of(body: Body) -> str | None:
    return (body.get("conditions") or {}).get("host")


def busiest(bodies: Sequence[Body], target: object) -> str | None:
    """Name the host of most of a target's measurements; of equal ones the first."""
    counted = Counter(host_of(body) for body in bodies if body.get("target") == target and host_of(body) is not None)
    return counted.most_common(1)[0][0] if counted else None


def _factor(bodies: Sequence[Body], body: Body, base: str | None) -> float | None:
    host = host_of(body)
    if host is None or host == base:
        return 1.0
    here, there = _references(bodies, body.get("target"), host), _references(bodies, body.get("target"), base)
    shared = [here[runtime] / there[runtime] for runtime in here if runtime in there]
    return statistics.median(shared) if shared else None


def _references(bodies: Sequence[Body], target: object, host: str | None) -> dict[str, float]:
    """Give the reference model's median on a host, per runtime, over the target's valid measurements."""
    found: dict[str, list[float]] = {}
    for body in bodies:
        if body.get("target") == target and host_of(body) == host and (level := _reference(body)) is not None:
            found.setdefault(body["target_runtime"], []).append(level)
    return {runtime: statistics.median(levels) for runtime, levels in found.items()}


def _reference(body: Body) -> float | None:
    return (body.get("execution_summary") or {}).get("reference_median_us")


def _is_valid(body: Body) -> bool:
    return (body.get("conditions") or {}).get("valid") is True


def _read(summary: Mapping[str, Any]) -> Measured:
    return Measured(summary["all_inference_times"], references=summary.get("all_reference_times_us") or ())
