"""Tables of the command line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from farm.cli import output

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
