"""The quality of results (`make bench-quality`): the farm's answer beside every recipe, Olive and the best by hand.

Every model's samples are parted first: all contenders calibrate and select on three quarters, and are judged on the
last one, which nobody saw. All files are then measured in one run, in turn, each time in a fresh process on one thread.
The figure is processor time per call, since other work on the machine does not change it; the wall's is beside it.
What is done is written after every case. No case is begun that is not expected to end within the bench's time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.quality_contenders import Contender, Workshop, by_hand, from_report, olive
from benchmarks.quality_judge import ANSWER, judge, judge_search
from benchmarks.quality_models import Case, CaseFailed, cases
from benchmarks.quality_points import measured
from benchmarks.stand import Say, Stand
from farm.domain.recipe import RECIPES

DEMO = Path(".farm") / "demo"
RESULT = Path("build") / "quality.json"
WITHIN_S = 1200.0
"""No case is begun that would end after this, if it took as long as the longest one before it."""
REUSED = ("--max-measurement-age", "1h")
"""What the search measured is not measured again for the same recipe."""
MANUAL = tuple(name for name in RECIPES if not name.startswith("sparse"))


def run(stand: Stand, wanted: Sequence[str], say: Say) -> list[dict[str, Any]]:
    """Run the cases that are named, all without names; what is done is written at once."""
    told: list[dict[str, Any]] = []
    began, longest_s = time.monotonic(), 0.0
    for name, make in cases(DEMO, say).items():
        if wanted and name not in wanted:
            continue
        started = time.monotonic()
        if not wanted and started - began + longest_s > WITHIN_S:
            told.append(_untold(name, f"not begun: the bench's {WITHIN_S:g} s are over"))
        else:
            try:
                told.append(_case(stand, make(), say))
            except CaseFailed as error:
                told.append(_untold(name, str(error)))
            longest_s = max(longest_s, time.monotonic() - started)
        say(f"{name}: {told[-1]['verdict']} ({time.monotonic() - started:.0f} s)")
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps({"cases": told}, indent=1) + "\n")
    return told


def _untold(name: str, why: str) -> dict[str, Any]:
    """Tell a case of which nothing is known: no aim of it is reached."""
    return {"case": name, "constraint": None, "aims": {}, "verdict": why, "points": []}


def _case(stand: Stand, case: Case, say: Say) -> dict[str, Any]:
    folder = stand.data / "quality" / case.name.replace(" ", "-")
    folder.mkdir(parents=True)
    shop = Workshop(case, folder)
    say(f"{case.name}: the farm searches")
    answered, seconds = _submit(stand, shop, "--recipe", "auto", "--constraint", case.constraint)
    say(f"{case.name}: the search took {seconds:.0f} s; the farm runs every recipe")
    manual, _ = _submit(stand, shop, *REUSED, *(word for name in MANUAL for word in ("--recipe", name)))
    every = from_report(stand, manual, shop)
    contenders = answered_first(answered, from_report(stand, answered, shop), every)
    olive_s: float | None = None
    tried: list[Contender] = []
    if (source := shop.float_onnx(every)) is not None:
        say(f"{case.name}: Olive")
        tried, olive_s = olive(shop, source)
        tried += by_hand(shop, source) if case.by_hand else []
    else:
        why = "no float32 ONNX to begin with"
        tried = [Contender("Olive and the hand", "onnxruntime", None, is_absent=True, error=why)]
    contenders += tried
    say(f"{case.name}: {len(contenders)} files are measured in turn")
    points = measured(shop, contenders, say)
    told = answered.get("answer") or {}
    ways = sum(one.path is not None for one in tried if one.name.startswith("Olive"))
    search = judge_search(answered, seconds=seconds, olive_seconds=olive_s, olive_ways=ways)
    return judge(case, points) | {
        "search": search,
        "losers": told.get("losers", []),
        "nearest_miss": told.get("nearest_miss"),
    }


def answered_first(
    report: dict[str, Any], searched: Sequence[Contender], every: Sequence[Contender]
) -> list[Contender]:
    """Put the answer and what else is on its front beside every single recipe.

    Equal files take part once: the same one timed twice would differ by the noise.

    Args:
        report: the searching job's.
        searched: its files.
        every: those of the job that ran every recipe.
    """
    told = report.get("answer") or {}
    winner = _cell(told["winner"]) if told.get("winner") else None
    front = {_cell(one) for one in told.get("pareto", ())}
    answer = [one.named(ANSWER) for one in searched if winner is not None and one.cell == winner]
    on_front = {one.files: one for one in searched if one.cell in front and one.cell != winner and one.files}
    known = {one.files for one in every}
    same = {one.files for one in answer if one.files}
    marked = [replace(one, is_front=one.files in on_front) for one in every if one.files not in same]
    others = [
        replace(one, name=f"{one.name} (the search's)", is_front=True)
        for files, one in on_front.items()
        if files not in known
    ]
    return [*answer, *marked, *others]


def _submit(stand: Stand, shop: Workshop, *words: str) -> tuple[dict[str, Any], float]:
    """Submit a case's model and wait.

    Raises:
        CaseFailed: the job was refused.
    """
    started = time.perf_counter()
    sizes = [word for text in shop.case.inputs for word in ("--input", text)]
    report = stand.submit(
        str(shop.case.source), "--target", "auto", "--calibration", str(shop.calibration), *sizes, *words
    )
    if not report.get("results"):
        raise CaseFailed(f"the job did not run: {json.dumps(report)[:300]}")
    return report, time.perf_counter() - started


def _cell(ref: dict[str, Any]) -> tuple[str, str]:
    return str(ref["target_runtime"]), str(ref["recipe"])


def as_tables(told: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """Lay the cases out: one table each, the farm's answer first."""
    for case in told:
        table = Table(
            "contender",
            "ms (processor)",
            "ms (wall)",
            "vs ORT float",
            "SQNR dB",
            "mask IoU",
            "MB",
            "beside the answer",
            title=f"{case['case']}: {case['constraint'] or '–'}; {case['verdict']}",
        )
        for point in case["points"]:
            figures = (point[name] for name in ("cpu_ms", "wall_ms", "speed_up", "sqnr_db", "mask_iou", "megabytes"))
            shown = ["–" if value is None else f"{value:.3g}" for value in figures]
            table.add_row(point["name"], *shown, point["beside_the_answer"])
        table.caption = _caption(case) if "search" in case else None
        yield table


_SAID = {True: "reached", False: "MISSED", None: "unknown"}


def _caption(case: dict[str, Any]) -> str:
    """Say of each aim whether it is reached, and what of."""
    search = case["search"]
    eight_s = search["eight_in_proportion_s"]
    told = [f"{name.replace('_', ' ')}: {_SAID[reached]}" for name, reached in case["aims"].items()]
    for name in (
        "farm_files_that_do_not_run",
        "slower_without_saying_so",
        "slower_with_a_measurement_that_does_not_count",
    ):
        told += [f"{name.replace('_', ' ')}: {', '.join(case[name])}"] if case[name] else []
    told.append(
        f"the search took {search['seconds']:.0f} s for {search['candidates_with_fidelity']} candidates with fidelity"
        + (f", eight in {eight_s:.0f} s in proportion" if eight_s is not None else "")
        + f" (Olive: {search['olive_eight_s']:g} s for eight by latency alone): {_SAID[search['reached']]}"
    )
    return "; ".join(told)
