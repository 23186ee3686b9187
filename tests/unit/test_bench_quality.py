"""The quality bench: samples are parted before anyone sees them, and the answer is held against every other point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality_models import Case, parted
from benchmarks.quality_points import ANSWER, BASE, Point, judge

FLOAT = Point("onnxruntime float32", BASE, cpu_ms=10.0, wall_ms=11.0, sqnr_db=120.0)
WON = Point(f"{ANSWER} (openvino int8-static)", ("openvino", "int8-static"), cpu_ms=5.0, wall_ms=6.0, sqnr_db=22.0)


def told(*points: Point) -> dict[str, Any]:
    case = Case("net", Path("net.onnx"), "onnxruntime", {}, {}, constraint="sqnr >= 20dB")
    return judge(case, (FLOAT, WON, *points))


def relations(judged: dict[str, Any]) -> dict[str, str]:
    return {point["name"]: point["relation"] for point in judged["points"]}


def test_given_samples_and_those_of_the_report_share_nothing() -> None:
    rows = np.arange(40 * 6, dtype=np.float32).reshape(40, 2, 3)
    doubled = np.concatenate([rows, rows[:5]])

    given, report = parted({"x": doubled})

    assert report["x"].shape == (len(report["x"]), 1, 2, 3)
    seen = {row.tobytes() for row in given["x"]}
    assert not seen & {row.tobytes() for row in report["x"]}
    assert len(given["x"]) + len(report["x"]) == len(doubled)
    assert len({row.tobytes() for row in report["x"]}) == 10


def test_a_point_that_is_faster_and_keeps_the_constraint_is_better() -> None:
    judged = told(Point("Olive static int8", None, cpu_ms=4.0, wall_ms=4.4, sqnr_db=20.1))

    assert not judged["reached"]
    assert relations(judged)["Olive static int8"] == "BETTER: 1.25x as fast"


def test_a_point_as_fast_and_nearer_to_the_source_is_better() -> None:
    judged = told(Point("by hand", None, cpu_ms=4.95, wall_ms=5.0, sqnr_db=23.0))

    assert relations(judged)["by hand"] == "BETTER: as fast, 1.0 dB nearer"


def test_within_three_percent_and_half_a_decibel_points_are_matched() -> None:
    near = Point("Olive", None, cpu_ms=4.9, wall_ms=5.0, sqnr_db=22.4)
    rough = Point("Olive dynamic", None, cpu_ms=1.0, wall_ms=1.0, sqnr_db=9.0)
    broken = Point("Olive per channel", None, error="it does not load")

    judged = told(near, rough, broken)

    assert judged["reached"]
    assert relations(judged)["Olive dynamic"] == "breaks the constraint"
    assert relations(judged)["Olive per channel"] == "no file that runs: it does not load"
    assert judged["points"][0]["name"] == WON.name
    assert judged["points"][0]["speed_up"] == 2.0


def test_the_farms_own_files_are_told_when_they_do_not_run_or_are_silently_slower() -> None:
    slow = Point("onnxruntime float16", ("onnxruntime", "float16"), cpu_ms=12.0, wall_ms=12.0, sqnr_db=60.0)
    said = Point(
        "onnxruntime int16x8", ("onnxruntime", "int16x8"), cpu_ms=30.0, wall_ms=31.0, sqnr_db=60.0, admits=True
    )
    broken = Point("litert int8-static", ("litert", "int8-static"), error="it does not load")

    judged = told(slow, said, broken)

    assert judged["slower_without_saying_so"] == ["onnxruntime float16"]
    assert judged["farm_files_that_do_not_run"] == ["litert int8-static"]
