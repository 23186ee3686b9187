"""What commands print: results to stdout (with --json only JSON), progress and errors to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.report.text import plain

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
PIPE_WIDTH, LEAST_WIDTH = 160, 20


def stdout() -> Console:
    """Return a console for results; a pipe or file is wide enough for whole tables, or as wide as COLUMNS says."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else width_told() or PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def width_told() -> int | None:
    """Read COLUMNS; None where it is no width."""
    said = os.environ.get("COLUMNS", "")
    return max(int(said), LEAST_WIDTH) if said.isdecimal() and int(said) else None


def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(message: str) -> None:
    """Tell the user something that is no result."""
    stderr().print(plain(message, keep="\n"))


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_messages(messages: Sequence[BaseModel]) -> None:
    print_json([message.model_dump(mode="json") for message in messages])


def print_table(columns: Sequence[str], lines: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print a table, or the sentence `empty` when there is nothing to list.

    Where a terminal is too narrow to keep words whole, each line becomes a paragraph, so that names can be copied.
    """
    from rich import box
    from rich.console import Group
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    if not lines:
        say(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*(Text(plain(cell)) for cell in line))
    console = stdout()
    unbounded = console.options.update(width=10 * PIPE_WIDTH)
    if Measurement.get(console, unbounded, table).minimum <= console.width:
        console.print(table)
        return
    for first, *others in lines:
        grid = Table.grid(padding=(0, 2))
        for column, cell in zip(columns[1:], others, strict=True):
            grid.add_row(f"  {column}", Text(plain(cell)))
        console.print(Group(Text(plain(first), style="bold"), grid))
