"""Run the benchmarks (`make bench`): print a table, write build/bench.json; 0 also when an aim is missed.

`python -m benchmarks steps imports` runs only these parts; `python -m benchmarks quality [CASE …]` is what
`make bench-quality` runs.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks import batch, conversions, importing, moving, peers, quality, steps
from benchmarks.figures import Figure, as_table, write
from benchmarks.stand import Stand, standing

RESULT = Path("build") / "bench.json"
console = Console(stderr=True, highlight=False)
PARTS: dict[str, Callable[[Stand], Iterable[Figure]]] = {
    "steps": steps.measure,
    "transfers": moving.measure,
    "conversions": lambda stand: conversions.measure(stand, say),
    "batch": lambda stand: batch.measure(stand, say),
}
ALONE: dict[str, Callable[[], Iterable[Figure]]] = {
    "imports": importing.measure,
    "peers": lambda: peers.measure(say),
}
"""Parts that need no farm; they run before one is brought up."""


def say(line: str) -> None:
    console.print(f"[dim]{line}[/dim]")


def compare_quality(wanted: list[str]) -> int:
    """Print and write build/quality.json; 0 also when an aim is missed.

    The farm is as its users have it: warm when a job comes, and an invalid measurement is taken once more.
    """
    os.environ["FARM_MEASUREMENT_RETRIES"] = "1"
    with standing(say) as stand:
        told = quality.run(stand, wanted, say)
    for table in quality.as_tables(told):
        Console(width=None if sys.stdout.isatty() else 180).print(table)
    return 0


def main(wanted: list[str]) -> int:
    """Run what is wanted; ended by a signal, the farm that was brought up is taken down all the same."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if wanted[:1] == ["quality"]:
        return compare_quality(wanted[1:])
    known = [*ALONE, *PARTS]
    if unknown := set(wanted) - set(known):
        console.print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
        return 2
    figures: list[Figure] = []
    with ExitStack() as held:
        stand: Stand | None = None
        for name in sorted(wanted or known, key=known.index):
            if name in PARTS:
                stand = stand or held.enter_context(standing(say))
            say(f"benchmark: {name}")
            figures += PARTS[name](stand) if stand and name in PARTS else ALONE[name]()
            write(figures, RESULT)
    Console(width=None if sys.stdout.isatty() else 160).print(as_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
