"""The quality bench: samples are parted before anyone sees them, and the answer is held against every other point."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.quality import answered_first
from benchmarks.quality_contenders import Contender, admits, opened
from benchmarks.quality_judge import ANSWER, BASE, Point, judge, judge_search
from benchmarks.quality_models import Case, CaseFailed, parted
from benchmarks.quality_points import races_on
from benchmarks.stand import Stand

FLOAT = Point("onnxruntime float32", BASE, cpu_ms=10.0, wall_ms=11.0, sqnr_db=120.0, is_front=True)
WON = Point(f"{ANSWER} (openvino int8-static)", ("openvino", "int8-static"), cpu_ms=5.0, wall_ms=6.0, sqnr_db=22.0)
OPENVINO = Point("openvino float32", ("openvino", "float32"), cpu_ms=9.8, wall_ms=10.0, sqnr_db=118.0)


def told(*points: Point, answer: Point | None = WON, **case: Any) -> dict[str, Any]:
    made = Case("net", Path("net.onnx"), "onnxruntime", {}, {}, **({"constraint": "sqnr >= 20dB"} | case))
    return judge(made, (FLOAT, OPENVINO, *((answer,) if answer else ()), *points))


def relations(judged: dict[str, Any]) -> dict[str, str]:
    return {point["name"]: point["beside_the_answer"] for point in judged["points"]}


def is_matched(judged: dict[str, Any]) -> bool | None:
    found: bool | None = judged["aims"]["every_point_is_matched"]
    return found


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

    assert is_matched(judged) is False
    assert relations(judged)["Olive static int8"] == "BETTER: 1.25x as fast"
    assert judged["verdict"] == "not matched: Olive static int8"


@pytest.mark.parametrize("cpu_ms", [4.95, 5.0, 5.1])
def test_a_point_as_fast_and_nearer_to_the_source_is_better(cpu_ms: float) -> None:
    judged = told(Point("by hand", None, cpu_ms=cpu_ms, wall_ms=5.0, sqnr_db=23.0))

    assert relations(judged)["by hand"] == "BETTER: as fast, 1.0 dB nearer"
    assert is_matched(judged) is False


def test_within_three_percent_and_half_a_decibel_points_are_matched() -> None:
    near = Point("Olive", None, cpu_ms=4.9, wall_ms=5.0, sqnr_db=22.4)
    rough = Point("Olive dynamic", None, cpu_ms=1.0, wall_ms=1.0, sqnr_db=9.0)
    broken = Point("Olive per channel", None, error="it does not load")

    judged = told(near, rough, broken)

    assert is_matched(judged) is True
    assert relations(judged)["Olive dynamic"] == "breaks the constraint"
    assert relations(judged)["Olive per channel"] == "no file that runs: it does not load"
    assert judged["points"][0]["name"] == WON.name
    assert judged["points"][0]["speed_up"] == 2.0


def test_a_slower_and_nearer_point_is_matched_by_the_answers_front_alone() -> None:
    between = Point("Olive percentile", None, cpu_ms=7.0, wall_ms=7.0, sqnr_db=35.0)
    front = Point("openvino int8-mixed", ("openvino", "int8-mixed"), cpu_ms=7.1, sqnr_db=34.8, is_front=True)

    assert is_matched(told(between)) is False
    assert relations(told(between))["Olive percentile"].startswith("NOT MATCHED: 1.40x the answer's time, +13.0 dB")
    assert is_matched(told(between, front)) is True
    assert relations(told(between, front))["Olive percentile"].endswith(
        "matched by openvino int8-mixed on the answer's front"
    )
    assert is_matched(told(between, replace(front, is_front=False))) is False


def test_decibels_beyond_the_sources_own_are_no_advantage() -> None:
    exact = replace(WON, sqnr_db=70.0)

    assert is_matched(told(Point("Olive float16", None, cpu_ms=5.0, sqnr_db=130.0), answer=exact)) is True


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "the farm found no answer"),
        (replace(WON, error="it does not load"), "the answer does not run: it does not load"),
        (replace(WON, sqnr_db=19.0), "the answer breaks the constraint on the report's samples: 19.0 dB"),
    ],
)
def test_an_answer_that_does_not_keep_its_own_constraint_matches_nothing(answer: Point | None, why: str) -> None:
    judged = told(Point("Olive", None, cpu_ms=50.0, wall_ms=50.0, sqnr_db=21.0), answer=answer)

    assert is_matched(judged) is False
    assert judged["verdict"] == why
    assert relations(judged)["Olive"] == "BETTER: it runs and keeps the constraint"


def test_who_could_not_take_part_is_not_matched() -> None:
    judged = told(Point("Olive", None, is_file=False, is_absent=True, error="environment olive is missing"))

    assert is_matched(judged) is None
    assert judged["verdict"] == "matched or dominated every point; not compared: Olive"


def test_where_no_file_of_olive_runs_it_was_not_compared() -> None:
    broken = [Point(f"Olive {name}", None, error="it wrote no file") for name in ("static int8", "float16")]

    assert is_matched(told(*broken)) is None
    assert is_matched(told(*broken, Point("Olive dynamic int8", None, cpu_ms=50.0, sqnr_db=15.0))) is True


def test_the_best_known_by_hand_takes_part_though_it_is_not_measured_here() -> None:
    slow = replace(WON, cpu_ms=5.3, sqnr_db=18.0, mask_iou=0.98)
    vague = replace(WON, cpu_ms=5.0, sqnr_db=18.0, mask_iou=0.9)
    good = replace(WON, cpu_ms=5.1, sqnr_db=17.3, mask_iou=0.97)

    found = [told(answer=one, constraint="sqnr >= 17.2dB", by_hand=(1.99, 17.7, 0.971)) for one in (slow, vague, good)]

    told_of = [relations(one)["known by hand (not measured here)"] for one in found]
    assert told_of[0] == "BETTER: 1.05x as fast"
    assert told_of[1] == "BETTER: as fast, mask IoU 0.971"
    assert [is_matched(one) for one in found] == [False, False, True]
    assert [point["is_known"] for point in found[2]["points"]].count(True) == 1


def test_the_farms_own_files_are_told_when_they_do_not_run_or_are_silently_slower() -> None:
    slow = Point("onnxruntime float16", ("onnxruntime", "float16"), cpu_ms=12.0, wall_ms=12.0, sqnr_db=60.0)
    said = Point(
        "onnxruntime int16x8", ("onnxruntime", "int16x8"), cpu_ms=30.0, wall_ms=31.0, sqnr_db=60.0, admits=True
    )
    broken = Point("litert int8-static", ("litert", "int8-static"), error="it does not load")
    refused = Point("litert int16x8", ("litert", "int16x8"), is_file=False, error="failed: no kernel")

    judged = told(slow, said, broken, refused)

    assert judged["slower_without_saying_so"] == ["onnxruntime float16"]
    assert judged["farm_files_that_do_not_run"] == ["litert int8-static"]
    assert judged["aims"]["no_file_is_slower_unsaid"] is False
    assert judged["aims"]["every_file_runs"] is False


def test_a_measurement_that_does_not_count_does_not_say_that_a_file_is_slower() -> None:
    slow = Point("onnxruntime float16", ("onnxruntime", "float16"), cpu_ms=12.0, sqnr_db=60.0, unmeasured=True)
    alone = Point("litert int8-static", ("litert", "int8-static"), cpu_ms=6.0, sqnr_db=21.0)

    judged = told(slow, alone)

    assert judged["slower_without_saying_so"] == []
    assert judged["slower_with_a_measurement_that_does_not_count"] == ["onnxruntime float16", "litert int8-static"]
    assert judged["aims"]["no_file_is_slower_unsaid"] is None


def test_a_file_is_silently_slower_only_where_it_is_so_in_every_round_that_it_shares_with_float() -> None:
    base = replace(FLOAT, rounds_ms=(11.5, 10.0, 10.3))
    lucky = Point("onnxruntime float16", ("onnxruntime", "float16"), cpu_ms=10.9, sqnr_db=60.0, rounds_ms=(10.9,))
    slow = replace(lucky, name="onnxruntime int8-dynamic", cpu_ms=11.6, rounds_ms=(11.9, 11.6, 11.7))
    made = Case("net", Path("net.onnx"), "onnxruntime", {}, {})

    assert judge(made, (base, WON, OPENVINO, lucky, slow))["slower_without_saying_so"] == ["onnxruntime int8-dynamic"]


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (["fingerprint.pb", "saved_model.pb", "variables/variables.index"], "at"),
        (["model.bin", "model.xml"], "at"),
        (["model.onnx", "model.onnx.data"], "at/model.onnx"),
        (["folder/one.json", "folder/two.json"], "at"),
    ],
)
def test_a_format_that_is_a_folder_is_opened_as_one(names: list[str], path: str) -> None:
    assert opened(Path("at"), names) == Path(path)


def test_a_note_says_that_a_file_may_be_slower_as_a_verdict_says_that_it_is() -> None:
    note = "It may be slower than float32: it took 1.20x its time, and such measurements vary by 25%."

    assert admits({"verdicts": ["slower-than-float"]})
    assert admits({"verdicts": ["ok"], "notes": [note]})
    assert not admits({"verdicts": ["ok"], "notes": ["As fast as float32 within 3%, by which such measurements vary."]})


def contender(cell: str, *files: str) -> Contender:
    runtime, recipe = cell.split()
    return Contender(cell, runtime, Path(cell), cell=(runtime, recipe), files=frozenset(files))


def test_equal_files_take_part_once_and_the_front_is_marked() -> None:
    refs = {
        cell: dict(zip(("target_runtime", "recipe"), cell.split(), strict=True)) for cell in ("ort a", "ort b", "ort c")
    }
    report = {"answer": {"winner": refs["ort a"], "pareto": [refs["ort a"], refs["ort b"], refs["ort c"]]}}
    searched = [contender("ort a", "1"), contender("ort b", "2"), contender("ort c", "3")]
    every = [contender("ort a", "1"), contender("ort b", "2"), contender("ort c", "other")]

    found = answered_first(report, searched, every)

    assert [(one.name, one.is_front) for one in found] == [
        (f"{ANSWER} (ort a)", False),
        ("ort b", True),
        ("ort c", False),
        ("ort c (the search's)", True),
    ]


def loser(recipe: str, reason: str = "p90 9 ms; the winner has 5 ms") -> dict[str, str]:
    return {"target_runtime": "onnxruntime", "recipe": recipe, "reason": reason}


def test_only_candidates_with_a_known_fidelity_count_for_the_searchs_time() -> None:
    losers = [loser(f"r{number}") for number in range(9)] + [loser("broken", "failed: no"), loser("out", "no kernel")]
    report = {"answer": {"winner": loser("won"), "losers": losers}, "left_out": [loser("out")]}

    search = judge_search(report, seconds=70.0, olive_seconds=44.0, olive_ways=6)

    assert search["candidates_with_fidelity"] == 10
    assert search["candidates_that_failed"] == 1
    assert search["eight_in_proportion_s"] == pytest.approx(56.0)
    assert search["reached"] is False


def test_fewer_than_eight_candidates_say_nothing_of_eight() -> None:
    report = {"answer": {"winner": loser("won"), "losers": [loser("r1")]}}

    assert judge_search(report, seconds=9.0, olive_seconds=None, olive_ways=0)["reached"] is None


@pytest.mark.parametrize(("within_s", "verdict"), [(1200.0, "the source does not run"), (-1.0, "not begun")])
def test_what_was_done_is_written_whatever_comes_after(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, within_s: float, verdict: str
) -> None:
    def failing() -> Case:
        assert json.loads((tmp_path / "quality.json").read_text())["cases"][0]["case"] == "net"
        raise CaseFailed("the source does not run")

    def cases(*_: object) -> dict[str, Callable[[], Case]]:
        return {"net": lambda: Case("net", Path("net.onnx"), "onnxruntime", {}, {}), "broken": failing}

    def judged(_stand: object, case: Case, _say: object) -> dict[str, Any]:
        monkeypatch.setattr(quality, "WITHIN_S", within_s)
        return {"case": case.name, "verdict": "matched", "points": []}

    monkeypatch.setattr(quality, "RESULT", tmp_path / "quality.json")
    monkeypatch.setattr(quality, "cases", cases)
    monkeypatch.setattr(quality, "_case", judged)

    found = quality.run(cast(Stand, None), [], lambda line: None)

    assert [one["case"] for one in found] == ["net", "broken"]
    assert found[1]["verdict"].startswith(verdict)
    assert found[1]["aims"] == {}
    assert json.loads((tmp_path / "quality.json").read_text())["cases"] == found


def test_only_rivals_are_timed_more_than_once() -> None:
    case = Case("net", Path("net.onnx"), "onnxruntime", {}, {})
    times = {f"{ANSWER} (a)": [{"cpu_us": 100.0}], "near": [{"cpu_us": 120.0}], "far": [{"cpu_us": 140.0}]}

    def goes_on(name: str, sqnr_db: float = 30.0, **more: Any) -> bool:
        return races_on(Contender(name, "onnxruntime", Path("x"), **more), case, sqnr_db, times)

    assert goes_on("near")
    assert not goes_on("near", 10.0)
    assert not goes_on("far")
    assert goes_on("far", is_front=True)
    assert goes_on("far", cell=BASE)
    times["onnxruntime float32"] = [{"cpu_us": 135.0}]
    assert goes_on("far", 10.0, cell=("onnxruntime", "int8-dynamic"))
    assert not goes_on("far", 10.0, cell=("onnxruntime", "int8-dynamic"), admits=True)
