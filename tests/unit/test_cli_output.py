"""Tables of the command line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from farm.cli import output
from farm.cli.progress import job_display, shortened
from farm.wire.jobs import JobView
from tests.farm_double import job_view

COLUMNS = ("job", "what", "state")
LINES = [("j-7f3a9c21bd", "x86-64-v4-vnni-of-a-long-name", "succeeded"), ("j-1", "", "refused")]


def printed(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, markup=False)
    monkeypatch.setattr(output, "stdout", lambda: console)
    output.print_table(COLUMNS, LINES, empty="None.")
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines() if line.strip()]


def test_a_table_stands_where_its_words_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    head, _, first, second = printed(monkeypatch, 70)

    assert head.split() == list(COLUMNS)
    assert first.split() == list(LINES[0])
    assert second.split() == ["j-1", "refused"]


def test_on_a_narrow_terminal_every_name_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 45)

    assert lines[:3] == ["j-7f3a9c21bd", "  what   x86-64-v4-vnni-of-a-long-name", "  state  succeeded"]
    assert lines[3:] == ["j-1", "  what", "  state  refused"]


@pytest.mark.parametrize(
    ("told", "width"), [("72", 72), ("200", 200), ("3", output.LEAST_WIDTH), ("", 160), ("0", 160), ("wide", 160)]
)
def test_a_pipe_is_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch, told: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", told)
    monkeypatch.setattr("sys.stdout", io.StringIO())

    assert output.stdout().width == width


def watched(view: JobView) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    console.print(job_display(view))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_at_80_columns_a_step_shows_its_stage_and_what_it_waits_for() -> None:
    step = "measure-onnxruntime · mobilenet_v2_224 → x86-64-v3-vnni · int8-static, waiting for the host's lock"
    shown = watched(running(step))

    assert shown[1].startswith("  measure-onnxruntime · mobilenet")
    assert shown[1].rstrip().endswith("waiting for the host's lock")
    assert max(map(len, shown)) <= 80


def test_a_job_of_which_nothing_runs_says_what_it_waits_for() -> None:
    assert "wait for a host" in watched(running())[1]


def running(*steps: str) -> JobView:
    view = JobView.model_validate(job_view(state="running"))
    return view.model_copy(update={"progress": view.progress.model_copy(update={"running": list(steps)})})


def test_what_fits_is_left_as_it_is() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefgh", 5) == "abc…h"
