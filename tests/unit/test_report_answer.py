"""The answer as people read it: in the terminal and on the page."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from farm.report.model import Report
from farm.report.page import render_html
from farm.report.schema import violations
from farm.report.table import print_report
from tests import report_samples as samples


def ref(runtime: str, recipe: str, reason: str | None = None) -> dict[str, str]:
    told = {"model": "net", "target": "box", "target_runtime": runtime, "recipe": recipe}
    return told if reason is None else {**told, "reason": reason}


FRONT = [ref("openvino", "int8-mixed"), ref("onnxruntime", "float32")]
LOSERS = [
    ref("onnxruntime", "float32", "p90 10 ms; the winner has 4 ms"),
    ref(
        "litert", "int8-static", "not measured in full: in a short measurement, p50 9 ms; openvino int8-mixed had 4 ms"
    ),
]
WON = {"winner": FRONT[0], "pareto": FRONT, "losers": LOSERS, "nearest_miss": None}
MISSED = {"winner": None, "pareto": [], "losers": LOSERS[:1], "nearest_miss": ref("litert", "float16", "size 9 MB")}
UNKNOWN = {**MISSED, "nearest_miss": ref("litert", "float16", "its p90 is not known: no valid measurement (loaded)")}


def read(answer: dict[str, Any]) -> tuple[str, str]:
    """Return what the terminal and the page say, white space narrowed."""
    report = {**samples.full_report(), "answer": answer}
    assert violations(report) == []
    console = Console(file=io.StringIO(), width=200, highlight=False)
    print_report(Report.model_validate(report), console)
    output = console.file
    assert isinstance(output, io.StringIO)
    page = re.sub(r"<[^>]+>", "", render_html(report))
    return " ".join(output.getvalue().split()), " ".join(page.split())


def test_the_winner_the_front_and_every_loser_are_read_in_both() -> None:
    terminal, page = read(WON)

    for said in ("openvino int8-mixed", "openvino int8-mixed, onnxruntime float32", LOSERS[0]["reason"]):
        assert said in terminal
        assert said in page
    assert "litert int8-static: not measured in full" in page


@pytest.mark.parametrize(
    ("answer", "says"),
    [(MISSED, "nothing satisfies the constraints"), (UNKNOWN, "nothing is known to satisfy the constraints")],
)
def test_without_a_winner_the_nearest_miss_is_named(answer: dict[str, Any], says: str) -> None:
    for text in read(answer):
        assert says in text.lower()
        assert f"litert float16, {answer['nearest_miss']['reason']}" in text
