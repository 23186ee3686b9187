"""The quality of results (`make bench-quality`): the farm's answer beside every recipe, Olive and the best by hand.

Every model's samples are parted first: all contenders calibrate and select on three quarters, and are judged on the
last one, which nobody saw. All files are then measured in one run, in turn, each time in a fresh process on one thread.
The figure is processor time per call, since other work on the machine does not change it; the wall's is beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.quality_contenders import Workshop, by_hand, from_report, olive
from benchmarks.quality_models import Case, cases
from benchmarks.quality_points import judge, measured
from benchmarks.stand import Say, Stand
from farm.domain.recipe import RECIPES

DEMO = Path(".farm") / "demo"
RESULT = Path("build") / "quality.json"
OLIVE_EIGHT_S = 48.0
"""What Olive's search needs for eight candidates by latency alone (FACTS: measured on two cores)."""
MANUAL = tuple(name for name in RECIPES if not name.startswith("sparse"))


def run(stand: Stand, wanted: Sequence[str], say: Say) -> list[dict[str, Any]]:
    """Run the cases that are named, all without names; what is done is written at once."""
    told = []
    for name, make in cases(DEMO, say).items():
        if wanted and name not in wanted:
            continue
        told.append(_case(stand, make(), say))
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps({"cases": told}, indent=1) + "\n")
    return told


def _case(stand: Stand, case: Case, say: Say) -> dict[str, Any]:
    folder = stand.data / "quality" / case.name.replace(" ", "-")
    folder.mkdir(parents=True)
    shop = Workshop(case, folder)
    say(f"{case.name}: the farm searches")
    answered, seconds = _submit(stand, shop, "--recipe", "auto", "--constraint", case.constraint)
    say(f"{case.name}: the farm runs every recipe")
    manual, _ = _submit(stand, shop, *(word for name in MANUAL for word in ("--recipe", name)))
    winner = (answered.get("answer") or {}).get("winner")
    results = {"every": from_report(stand, manual, shop), "auto": from_report(stand, answered, shop)}
    answer = next((one for one in results["auto"] if winner and one.cell == _cell(winner)), None)
    contenders = [*results["every"], *([answer.named("the farm's answer")] if answer else [])]
    if (source := shop.float_onnx(results["every"])) is not None:
        say(f"{case.name}: Olive")
        contenders += olive(shop, source)
        contenders += by_hand(shop, source) if case.by_hand else []
    say(f"{case.name}: {len(contenders)} files are measured in turn")
    points = measured(shop, contenders, say)
    told = answered.get("answer") or {}
    tried = len(told.get("losers", ())) + bool(winner) - len(answered.get("left_out", ()))
    return judge(case, points) | {
        "search": {"seconds": seconds, "candidates": tried, "olive_eight_s": OLIVE_EIGHT_S},
        "losers": told.get("losers", []),
        "nearest_miss": told.get("nearest_miss"),
    }


def _submit(stand: Stand, shop: Workshop, *words: str) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    sizes = [word for text in shop.case.inputs for word in ("--input", text)]
    report = stand.submit(
        str(shop.case.source), "--target", "auto", "--calibration", str(shop.calibration), *sizes, *words
    )
    return report, time.perf_counter() - started


def _cell(ref: dict[str, Any]) -> tuple[str, str]:
    return str(ref["target_runtime"]), str(ref["recipe"])


def as_tables(told: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """Lay the cases out: one table each, the farm's answer first."""
    for case in told:
        title = f"{case['case']}: {case['constraint']}; {case['verdict']}"
        table = Table(
            "contender",
            "ms (processor)",
            "ms (wall)",
            "vs ORT float",
            "SQNR dB",
            "mask IoU",
            "MB",
            "beside the answer",
            title=title,
        )
        for point in case["points"]:
            figures = (point[name] for name in ("cpu_ms", "wall_ms", "speed_up", "sqnr_db", "mask_iou", "megabytes"))
            shown = ["–" if value is None else f"{value:.3g}" for value in figures]
            table.add_row(point["name"], *shown, point["relation"])
        table.caption = _caption(case)
        yield table


def _caption(case: dict[str, Any]) -> str:
    """Say what else is aimed at: how long the search took, and that no file is broken or silently slow."""
    search = case["search"]
    told = [
        f"the search took {search['seconds']:.0f} s for {search['candidates']} candidates with fidelity "
        f"(Olive: {search['olive_eight_s']:g} s for eight by latency alone)"
    ]
    for name in ("farm_files_that_do_not_run", "slower_without_saying_so"):
        told.append(f"{name.replace('_', ' ')}: {', '.join(case[name]) or 'none'}")
    return "; ".join(told)
