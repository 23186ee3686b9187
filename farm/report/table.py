"""The report for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from farm.report.measured import sentences
from farm.report.model import Answer, Report, Result
from farm.report.row import Row, note, order, row, summary
from farm.report.text import UNKNOWN, plain

WIDE, MIDDLE = 160, 104
_STYLES = {
    "ok": "green",
    "degraded": "yellow",
    "slower-than-float": "yellow",
    "invalid-measurement": "magenta",
    "failed": "bold red",
}
_VERDICT_WIDTH = {True: 20, False: 12}
_FIGURES = ("size", "p50 / p90 ms", "vs float", "SQNR dB", "acc. (float)", "verdict")


def render(report: Report, *, width: int) -> RenderableType:
    """Lay out a report for a terminal of `width` columns: one table where it fits, else one per model and target."""
    results = order(report)
    shared = _shared(results)
    noted = [(result, said) for result in results if (said := note(result, but=shared))]
    lines = _Lines(width, {id(result): number for number, (result, _) in enumerate(noted, 1)})
    parts: list[RenderableType] = [_heading(report)]
    if results:
        parts += [Text(), lines.table(results)] if width >= WIDE else lines.tables(results)
    notes = [Text(f"[{number}] {plain(one.folder)}: {said}") for number, (one, said) in enumerate(noted, 1)]
    notes += [Text(f"{plain(', '.join(models))}: {plain(said)}") for said, models in shared.items()]
    return Group(*parts, *notes, *_further(results), *_left_out(report), *_answers(report))


def print_report(report: Report, console: Console) -> None:
    console.print(render(report, width=console.width))


def _heading(report: Report) -> Text:
    name = f" {plain(report.name)}" if report.name else ""
    return Text.assemble(("Job ", "bold"), (report.job, "bold"), name, f": {report.state}, {summary(report)}")


@dataclass(frozen=True, slots=True)
class _Lines:
    """Results as lines of a table; `notes` numbers the ones that have a note below, by identity."""

    width: int
    notes: dict[int, int]

    def tables(self, results: Sequence[Result]) -> Iterator[RenderableType]:
        for (model, target), group in groupby(results, key=lambda result: (result.model, result.target)):
            yield Text.assemble("\n", (plain(model), "bold"), " on ", (plain(target), "bold"))
            yield self.table(list(group))

    def table(self, results: Sequence[Result]) -> Table:
        padding = (0, 1 if self.width >= MIDDLE else 0, 0, 0)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding, header_style="bold")
        names = ("model", "target") if self.width >= WIDE else ()
        for column in (*names, "runtime"):
            table.add_column(column, overflow="fold", no_wrap=column == "runtime")
        table.add_column("recipe", overflow="fold", min_width=min(12, max(len(r.recipe) for r in results)))
        for column in _FIGURES[:-1]:
            table.add_column(self._broken(column), justify="right", overflow="fold")
        table.add_column("verdict", overflow="fold", min_width=_VERDICT_WIDTH[self.width >= MIDDLE])
        for result in results:
            table.add_row(*self._cells(result))
        return table

    def _cells(self, result: Result) -> list[Text]:
        cells = row(result)
        names = [Text(cells.model), Text(cells.target)] if self.width >= WIDE else []
        times, versus = _measured(self._broken(cells.times), cells), _measured(cells.versus_float, cells)
        figures = [Text(cells.size), times, versus, Text(cells.sqnr_db), Text(self._broken(cells.accuracy))]
        return [
            *names,
            Text(cells.runtime),
            Text(cells.recipe),
            *figures,
            self._verdict(cells, self.notes.get(id(result))),
        ]

    def _broken(self, text: str) -> str:
        """Put a cell of two parts on two lines where a terminal is narrow."""
        first, found, second = text.partition(" / ")
        if self.width >= MIDDLE:
            return text
        return f"{first} /\n{second}" if found else text.replace(" ", "\n", 1)

    def _verdict(self, cells: Row, number: int | None) -> Text:
        words = cells.verdict.split(", ")
        if self.width < MIDDLE:
            words = [word.replace("-", "-\n", 1) if len(word) > 12 else word for word in words]
        text = Text("\n").join(Text(word, style=_STYLES.get(word.replace("\n", ""), "")) for word in words)
        return Text.assemble(text, "\nemulated" * cells.emulated, f" [{number}]" if number else "")


def _measured(figure: str, cells: Row) -> Text:
    """Show a figure that does not count crossed out, struck and in brackets, so that no copy of it looks valid."""
    return Text(figure) if cells.counts or figure == UNKNOWN else Text.assemble("✗(", (figure, "strike dim"), ")")


def _shared(results: Sequence[Result]) -> dict[str, list[str]]:
    """Find the notes that several results have, with the models whose results they are: each is told once."""
    found: dict[str, list[str]] = {}
    for result in results:
        for said in dict.fromkeys(result.notes):
            found.setdefault(said, []).append(result.model)
    return {said: list(dict.fromkeys(models)) for said, models in found.items() if len(models) > 1}


def _further(results: Sequence[Result]) -> Iterator[Text]:
    for result in results:
        for sentence in sentences(result):
            yield Text(f"{plain(result.folder)}: {sentence}", style="dim")


def _left_out(report: Report) -> Iterator[Text]:
    for one in report.left_out:
        cell = f"{one.model}/{one.target}/{one.target_runtime}/{one.recipe}"
        yield Text(plain(f"left out {cell}: {one.reason}"), style="dim")


def _answers(report: Report) -> Iterator[Text]:
    for answer in [report.answer] if report.answer is not None else report.answers:
        yield from _answer(answer)


def _answer(answer: Answer) -> Iterator[Text]:
    winner, miss = answer.winner, answer.nearest_miss
    if winner is not None:
        name = f"{winner.model} on {winner.target}, {winner.target_runtime} {winner.recipe}"
        yield Text.assemble("Answer: ", (plain(name), "bold"), plain(f", {winner.reason}" if winner.reason else ""))
    else:
        near = f"; nearest: {miss.target_runtime} {miss.recipe}, {miss.reason}" if miss else ""
        yield Text(plain(f"Answer: {answer.refusal}{f' of {answer.model}' if answer.model else ''}{near}"))
    if answer.pareto:
        front = ", ".join(
            f"{one.target_runtime} {one.recipe}{' (its time does not count)' if one.reason else ''}"
            for one in answer.pareto
        )
        yield Text(plain(f"  Pareto front (latency, fidelity, size): {front}"))
    if answer.decided_on:
        yield Text(plain(f"  {answer.decided_on}"), style="dim")
    for loser in answer.losers:
        yield Text(plain(f"  not {loser.target_runtime} {loser.recipe}: {loser.reason}"), style="dim")
