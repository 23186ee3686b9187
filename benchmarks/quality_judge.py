"""Hold the farm's answer against every other point of a case, and say of each aim whether it is reached.

An aim is reached (True), missed (False), or unknown (None) where something that had to be compared could not be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from benchmarks.quality_models import Case
from farm.domain.constraint import parse_constraint
from farm.domain.recipe import BASELINE, RECIPES

SLACK, SLACK_DB, SLACK_IOU = 1.03, 0.5, 0.01
"""By how much two points of one quality may differ: in latency, in fidelity, and in the overlap of masks."""
EXACT_DB = RECIPES[BASELINE].degraded_below_db
"""From here on an output is the source's for all purposes: more decibels are no advantage."""
BASE = ("onnxruntime", BASELINE)
ANSWER = "the farm's answer"
OLIVE_EIGHT_S = 48.0
"""What Olive's search needs for eight candidates by latency alone (FACTS: measured on two cores)."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a contender reached; times in milliseconds per call.

    Attributes:
        cell: the runtime and recipe of a result of the farm; None of others.
        admits: the farm said that it is slower than float, or that it may be.
        unmeasured: the farm said that its measurement of it does not count.
        is_file: a file was handed over, whether it runs or not.
        is_absent: it could not take part for a reason of the bench, so nothing is known of it.
        is_front: it is on the Pareto front of the farm's answer.
        is_known: its figures were found by hand earlier, and not measured here.
        rounds_ms: processor time of each round; `cpu_ms` is the least, since what disturbs a round only adds to it.
    """

    name: str
    cell: tuple[str, str] | None
    cpu_ms: float | None = None
    wall_ms: float | None = None
    sqnr_db: float | None = None
    mask_iou: float | None = None
    megabytes: float | None = None
    admits: bool = False
    unmeasured: bool = False
    is_file: bool = True
    is_absent: bool = False
    is_front: bool = False
    is_known: bool = False
    rounds_ms: tuple[float, ...] = ()
    error: str | None = None


class Relation(StrEnum):
    """How a point stands beside the answer."""

    ANSWER = "the answer"
    MATCHED = "matched"
    TRADED = "slower, nearer: on the answer's front"
    UNMATCHED = "NOT MATCHED"
    BETTER = "BETTER"
    OUT = "breaks the constraint"
    BROKEN = "no file that runs"
    ABSENT = "NOT COMPARED"


def judge(case: Case, points: Sequence[Point]) -> dict[str, Any]:
    """Hold the answer against every other point, and the farm's files against what they say of themselves."""
    least_db = parse_constraint(case.constraint).bound
    answer = next((one for one in points if one.name.startswith(ANSWER)), None)
    base = base_ms(points)
    points = [*points, *_known(case, base)]
    told = []
    for one in points:
        relation, text = _relation(answer, points, one, least_db)
        speed_up = base / one.cpu_ms if base and one.cpu_ms else None
        told.append(asdict(one) | {"speed_up": speed_up, "relation": relation.value, "beside_the_answer": text})
    by_relation = {each: [one["name"] for one in told if one["relation"] == each.value] for each in Relation}
    lost = by_relation[Relation.BETTER] + by_relation[Relation.UNMATCHED]
    unknown = [*by_relation[Relation.ABSENT], *_all_broken(points)]
    why_not = _no_answer(answer, least_db)
    wrong = [one.name for one in points if one.cell and one.is_file and one.error]
    silent, untold = _slower(points)
    aims = {
        "every_point_is_matched": _aim(bool(lost) or why_not is not None, is_unknown=bool(unknown)),
        "every_file_runs": _aim(bool(wrong), is_unknown=False),
        "no_file_is_slower_unsaid": _aim(bool(silent), is_unknown=bool(untold)),
    }
    return {
        "case": case.name,
        "constraint": case.constraint,
        "aims": aims,
        "verdict": _verdict(why_not, lost, unknown),
        "farm_files_that_do_not_run": wrong,
        "slower_without_saying_so": silent,
        "slower_with_a_measurement_that_does_not_count": untold,
        "points": sorted(told, key=lambda one: (not str(one["name"]).startswith(ANSWER), one["cpu_ms"] or 1e9)),
    }


def base_ms(points: Sequence[Point]) -> float | None:
    """Return what ONNX Runtime's float32 takes, in milliseconds of processor time per call."""
    return next((one.cpu_ms for one in points if one.cell == BASE and one.cpu_ms), None)


def judge_search(
    report: dict[str, Any], *, seconds: float, olive_seconds: float | None, olive_ways: int
) -> dict[str, Any]:
    """Say how long the search took for those candidates whose fidelity it knew.

    Args:
        report: the searching job's.
        seconds: from its submission to its end, on the wall's clock.
        olive_seconds: what Olive took in this run; None where it was not there.
        olive_ways: how many files it made in that time, whose fidelity it does not know.

    Returns: the figures; `reached` says whether eight such candidates take less than Olive's eight, in proportion to
        their number. It is None where fewer than eight were tried.
    """
    told = report.get("answer") or {}
    left_out = {(one["target_runtime"], one["recipe"]) for one in report.get("left_out", ())}
    losers = [one for one in told.get("losers", ()) if (one["target_runtime"], one["recipe"]) not in left_out]
    failed = [one for one in losers if str(one["reason"]).startswith("failed: ")]
    tried = len(losers) - len(failed) + bool(told.get("winner"))
    eight_s = seconds / tried * 8 if tried >= 8 else None
    return {
        "seconds": seconds,
        "candidates_with_fidelity": tried,
        "candidates_that_failed": len(failed),
        "eight_in_proportion_s": eight_s,
        "olive_eight_s": OLIVE_EIGHT_S,
        "olive_here": {"seconds": olive_seconds, "ways": olive_ways},
        "reached": None if eight_s is None else eight_s < OLIVE_EIGHT_S,
    }


def _all_broken(points: Sequence[Point]) -> list[str]:
    """Say that Olive was not compared where nothing of it runs: that is rather the bench's fault than its own."""
    ways = [one for one in points if one.name.startswith("Olive") and not one.is_absent]
    return ["Olive, of which no file runs"] if ways and all(one.error for one in ways) else []


def _aim(is_missed: bool, *, is_unknown: bool) -> bool | None:
    return False if is_missed else None if is_unknown else True


def _verdict(why_not: str | None, lost: Sequence[str], unknown: Sequence[str]) -> str:
    if why_not is not None:
        return why_not
    told = f"not matched: {', '.join(lost)}" if lost else "matched or dominated every point"
    return f"{told}; not compared: {', '.join(unknown)}" if unknown else told


def _no_answer(answer: Point | None, least_db: float) -> str | None:
    """Say why there is no answer that could match anything."""
    if answer is None:
        return "the farm found no answer"
    if answer.error is not None or answer.cpu_ms is None or answer.sqnr_db is None:
        return f"the answer does not run: {answer.error or 'it has no figures'}"
    if answer.sqnr_db < least_db - SLACK_DB:
        return f"the answer breaks the constraint on the report's samples: {answer.sqnr_db:.1f} dB"
    return None


def _relation(answer: Point | None, points: Sequence[Point], one: Point, least_db: float) -> tuple[Relation, str]:
    if one.is_absent:
        return Relation.ABSENT, f"{Relation.ABSENT}: {one.error}"
    if one.error is not None or one.cpu_ms is None or one.sqnr_db is None:
        return Relation.BROKEN, f"{Relation.BROKEN}: {one.error or 'it has no figures'}"
    if one is answer:
        return Relation.ANSWER, ""
    if one.sqnr_db < least_db - SLACK_DB:
        return Relation.OUT, Relation.OUT.value
    if answer is None or answer.cpu_ms is None or answer.sqnr_db is None or _no_answer(answer, least_db):
        return Relation.BETTER, "BETTER: it runs and keeps the constraint"
    slower, nearer_db = one.cpu_ms / answer.cpu_ms, _counted_db(one.sqnr_db) - _counted_db(answer.sqnr_db)
    if slower < 1 / SLACK:
        return Relation.BETTER, f"BETTER: {1 / slower:.2f}x as fast"
    if slower <= SLACK and nearer_db > SLACK_DB:
        return Relation.BETTER, f"BETTER: as fast, {nearer_db:.1f} dB nearer"
    if slower <= SLACK and (one.mask_iou or 0.0) > (answer.mask_iou or 0.0) + SLACK_IOU:
        return Relation.BETTER, f"BETTER: as fast, mask IoU {one.mask_iou:.3f}"
    beside = f"{slower:.2f}x the answer's time, {one.sqnr_db - answer.sqnr_db:+.1f} dB"
    if nearer_db <= SLACK_DB:
        return Relation.MATCHED, beside
    if (rival := _on_front(points, one)) is not None:
        return Relation.TRADED, f"{beside}: matched by {rival} on the answer's front"
    return Relation.UNMATCHED, f"NOT MATCHED: {beside}, and nothing on the answer's front is so near in that time"


def _on_front(points: Sequence[Point], one: Point) -> str | None:
    """Name the point of the answer's front that is as fast and as near as another one."""
    for rival in points:
        if not rival.is_front or rival.cpu_ms is None or rival.sqnr_db is None or one.cpu_ms is None:
            continue
        if rival.cpu_ms <= SLACK * one.cpu_ms and _counted_db(rival.sqnr_db) >= _counted_db(one.sqnr_db) - SLACK_DB:
            return rival.name
    return None


def _counted_db(sqnr_db: float | None) -> float:
    return min(EXACT_DB, sqnr_db if sqnr_db is not None else -EXACT_DB)


def _known(case: Case, base: float | None) -> list[Point]:
    """Make a point of what is known by hand, at the speed it would have beside this run's float32."""
    if case.by_hand is None:
        return []
    name = "known by hand (not measured here)"
    if base is None:
        return [Point(name, None, is_known=True, is_absent=True, error="ONNX Runtime's float32 has no time here")]
    speed_up, sqnr_db, mask_iou = case.by_hand
    return [Point(name, None, cpu_ms=base / speed_up, sqnr_db=sqnr_db, mask_iou=mask_iou, is_known=True)]


def _slower(points: Sequence[Point]) -> tuple[list[str], list[str]]:
    """Name the farm's files that are slower than their runtime's float32 and do not say so.

    Second, those of which it said that its own measurement does not count: it warned, but not of that; and those that
    no float32 of their runtime stands beside.
    """
    floats = {one.cell[0]: one for one in points if one.cell and one.cell[1] == BASELINE and one.cpu_ms}
    silent, untold = [], []
    for one in points:
        if one.cell is None or one.cpu_ms is None or one.admits:
            continue
        beside = floats.get(one.cell[0])
        if beside is None or (one.unmeasured and is_slower(one, beside)):
            untold.append(one.name)
        elif is_slower(one, beside):
            silent.append(one.name)
    return silent, untold


def is_slower(one: Point, beside: Point) -> bool:
    """Tell whether one is slower than another: by its least time, and in each of the rounds that both were in.

    Of two equal files one is the slower in about half of the rounds: what tells them from a slower file is that it is
    so in all.
    """
    if one.cpu_ms is None or beside.cpu_ms is None or one.cpu_ms <= SLACK * beside.cpu_ms:
        return False
    return all(mine > other for mine, other in zip(one.rounds_ms, beside.rounds_ms, strict=False))
