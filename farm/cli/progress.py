"""Progress on stderr: bars in a terminal, a line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.cli.output import stderr
from farm.report.text import plain, size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.progress import Progress, TaskID

    from farm.wire.jobs import JobView

SHOWN_STEPS = 6
SMALL_BYTES = 8 << 20
WAITING = "waiting for the host's lock"
"""What is said again when it begins or ends, though no step was done."""
OnBytes = Callable[[str, int, int], None]


@contextmanager
def transfer_bars(verb: str) -> Iterator[OnBytes]:
    """Show a bar for each file on its way; the callback takes name, bytes so far and size."""
    console = stderr()
    if not console.is_terminal:
        yield _TransferLines(verb)
        return
    with _transfer_progress(console, verb) as progress:
        yield _TransferBars(progress)


@contextmanager
def job_progress() -> Iterator[Callable[[JobView], None]]:
    """Show a job's steps: how many are done, and what runs now."""
    console = stderr()
    if not console.is_terminal:
        yield _JobLines()
        return
    from rich.live import Live

    display = _JobDisplay()
    with Live(display, console=console, refresh_per_second=8, transient=True):
        yield display.update


def job_display(view: JobView) -> RenderableType:
    """Draw where a job stands, as a terminal shows it while it is watched."""
    return _JobDisplay(view)


def _transfer_progress(console: Console, verb: str) -> Progress:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    return Progress(
        TextColumn(f"{verb} {{task.description}}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=console,
        transient=True,
    )


@dataclass(slots=True)
class _TransferBars:
    progress: Progress
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def __call__(self, name: str, done_bytes: int, size_bytes: int) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(plain(name, limit=40), total=size_bytes)
        self.progress.update(self.tasks[name], completed=done_bytes)
        if done_bytes >= size_bytes:
            self.progress.update(self.tasks[name], visible=False)


@dataclass(slots=True)
class _TransferLines:
    """Says once that a large file has gone through; small ones are not worth a line."""

    verb: str
    said: set[str] = field(default_factory=set)

    def __call__(self, name: str, done_bytes: int, size_bytes: int) -> None:
        if done_bytes >= size_bytes >= SMALL_BYTES and name not in self.said:
            self.said.add(name)
            stderr().print(f"{self.verb} {plain(name)}: {size(size_bytes)}")


@dataclass(slots=True)
class _JobLines:
    last: str = ""

    def __call__(self, view: JobView) -> None:
        line = f"{view.state}: {view.progress.steps_done} of {view.progress.steps_total} steps done"
        waits = "; ".join(step for step in view.progress.running if WAITING in step)
        if line + waits != self.last:
            self.last = line + waits
            running = "; ".join(plain(step) for step in view.progress.running[:SHOWN_STEPS])
            stderr().print(f"{line}; now {running}" if running else line)


@dataclass(slots=True)
class _JobDisplay:
    """A bar with a line below for each running step; redrawn by rich.live, so the clock moves."""

    view: JobView | None = None
    began: float = field(default_factory=time.monotonic)

    def update(self, view: JobView) -> None:
        self.view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        if self.view is None:
            return
        progress, elapsed_s = self.view.progress, time.monotonic() - self.began
        line = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(progress.steps_total, 1), completed=progress.steps_done, width=30)
        count = f"{progress.steps_done}/{progress.steps_total} steps" if progress.steps_total else ""
        line.add_row(Spinner("dots"), Text(self.view.state, style="bold"), bar, count, f"{elapsed_s:.0f} s")
        yield line
        for step in progress.running[:SHOWN_STEPS] or _idle(self.view):
            yield Text(f"  {shortened(plain(step), options.max_width - 2)}", style="dim", no_wrap=True)
        if len(progress.running) > SHOWN_STEPS:
            yield Text(f"  and {len(progress.running) - SHOWN_STEPS} more", style="dim")


def _idle(view: JobView) -> list[str]:
    """Say what is waited for while no step runs."""
    if view.state == "inspecting":
        return ["the model is read; the plan comes next"]
    return [] if view.ended else ["no step runs just now: the next ones wait for a host (farm hosts)"]


def shortened(text: str, width: int) -> str:
    """Leave out the middle of what is too long for a line: it begins with the stage and ends with what it waits for."""
    if len(text) <= width:
        return text
    end = max(width // 2 - 1, 0)
    return f"{text[: width - end - 1]}…{text[len(text) - end :]}"
