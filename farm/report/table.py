"""The report for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from farm.report.model import Report, Result
from farm.report.row import Row, order, row, summary
from farm.report.text import plain

WIDE = 118
_STYLES = {
    "ok": "green",
    "degraded": "yellow",
    "slower-than-float": "yellow",
    "invalid-measurement": "magenta",
    "failed": "bold red",
}
_FIGURES = ("size", "p50 / p90 ms", "vs float", "SQNR", "accuracy (float)", "verdict")


def render(report: Report, *, width: int) -> RenderableType:
    """Lay out a report for a terminal of `width` columns: one table where it fits, else one per model and target."""
    results = order(report)
    parts: list[RenderableType] = [_heading(report)]
    if results:
        parts += [_table(results, names=True)] if width >= WIDE else _tables(results)
    notes = [_note(number, one) for number, one in _noted(results)]
    return Group(*parts, *notes, *_answer(report))


def print_report(report: Report, console: Console) -> None:
    console.print(render(report, width=console.width))


def _heading(report: Report) -> Text:
    name = f" {plain(report.name)}" if report.name else ""
    return Text.assemble(("Job ", "bold"), (report.job, "bold"), name, f": {report.state}, {summary(report)}")


def _tables(results: Sequence[Result]) -> Iterator[RenderableType]:
    for (model, target), group in groupby(results, key=lambda result: (result.model, result.target)):
        yield Text.assemble("\n", (plain(model), "bold"), " on ", (plain(target), "bold"))
        yield _table(list(group), names=False, all_results=results)


def _table(results: Sequence[Result], *, names: bool, all_results: Sequence[Result] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if names else 0, 0, 0), header_style="bold")
    for column in (*(("model", "target") if names else ()), "runtime", "recipe"):
        table.add_column(column, overflow="fold")
    for column in _FIGURES:
        table.add_column(column, justify="left" if column == "verdict" else "right", overflow="fold")
    numbers = {id(result): number for number, result in _noted(all_results or results)}
    for result in results:
        table.add_row(*_cells(row(result), numbers.get(id(result)), names=names))
    return table


def _cells(row: Row, number: int | None, *, names: bool) -> list[Text]:
    mark = f" [{number}]" if number else ""
    style = "" if row.counts else "strike dim"
    times = Text(row.times, style=style) if row.counts else Text.assemble("not valid (", (row.times, style), ")")
    versus = Text(row.versus_float, style=style) if row.counts else Text.assemble("(", (row.versus_float, style), ")")
    verdict = Text.assemble((row.verdict, _STYLES.get(row.verdict.split(",")[0], "")), " emulated" * row.emulated, mark)
    leading = [Text(row.model), Text(row.target)] if names else []
    figures = [Text(row.size), times, versus, Text(row.sqnr), Text(row.accuracy), verdict]
    return [*leading, Text(row.runtime), Text(row.recipe), *figures]


def _noted(results: Sequence[Result]) -> list[tuple[int, Result]]:
    return list(enumerate((result for result in results if row(result).note), 1))


def _note(number: int, result: Result) -> Text:
    return Text(f"[{number}] {plain(result.folder)}: {row(result).note}")


def _answer(report: Report) -> list[RenderableType]:
    if report.answer is None:
        return []
    winner, miss = report.answer.winner, report.answer.nearest_miss
    if winner is not None:
        lines = [Text.assemble("Answer: ", (plain(f"{winner.model}, {winner.target_runtime} {winner.recipe}"), "bold"))]
    else:
        near = plain(f"; nearest: {miss.target_runtime} {miss.recipe}, {miss.reason}") if miss else ""
        lines = [Text(f"Answer: nothing satisfies the constraints{near}")]
    for loser in report.answer.losers:
        lines.append(Text(plain(f"  not {loser.target_runtime} {loser.recipe}: {loser.reason}"), style="dim"))
    return list(lines)
