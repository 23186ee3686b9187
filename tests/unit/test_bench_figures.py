"""Figures are judged against their aims and written as `make bench` promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.figures import Figure, as_table, write

OVERHEAD = Figure("step_overhead_p50_ms", 42.0, "ms", aim=60.0, limit=8.0, limit_is="Celery no-op round trip")
UPLOAD = Figure("upload_1gb_ratio", 0.5, "ratio", aim=0.6, limit=1.0, limit_is="boto3", at_least=True)


@pytest.mark.parametrize(
    ("value", "at_least", "reached"),
    [(59.9, False, True), (60.0, False, True), (60.1, False, False), (59.9, True, False), (60.1, True, True)],
)
def test_an_aim_is_an_upper_bound_unless_it_says_at_least(value: float, at_least: bool, reached: bool) -> None:
    assert Figure("any", value, "ms", aim=60.0, at_least=at_least).reached is reached


def test_the_document_holds_every_figure_beside_its_limit(tmp_path: Path) -> None:
    # Given two figures, one of which misses its aim
    path = tmp_path / "build" / "bench.json"
    # When they are written
    write([OVERHEAD, UPLOAD], path)
    # Then each has value, unit, limit, aim and the verdict under its name
    figures = json.loads(path.read_text())["figures"]
    wanted = {"value": 42.0, "unit": "ms", "limit": 8.0, "aim": 60.0, "reached": True}
    assert wanted.items() <= figures["step_overhead_p50_ms"].items()
    assert figures["upload_1gb_ratio"]["reached"] is False


def test_the_table_names_what_was_missed() -> None:
    console = Console(width=160)
    with console.capture() as shown:
        console.print(as_table([OVERHEAD, UPLOAD]))
    lines = {line.split()[1]: line for line in shown.get().splitlines() if "_" in line}
    assert "yes" in lines["step_overhead_p50_ms"]
    assert "NO" in lines["upload_1gb_ratio"]
    assert "≥ 0.6" in lines["upload_1gb_ratio"]
