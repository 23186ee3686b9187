"""Run the benchmarks (`make bench`): print a table, write build/bench.json; 0 also when an aim is missed.

`python -m benchmarks steps imports` runs only these parts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console

from benchmarks import batch, conversions, importing, moving, steps
from benchmarks.figures import Figure, as_table, write
from benchmarks.stand import Stand, standing

RESULT = Path("build") / "bench.json"
console = Console(stderr=True, highlight=False)
PARTS: dict[str, Callable[[Stand], Iterable[Figure]]] = {
    "imports": lambda stand: importing.measure(),
    "steps": steps.measure,
    "transfers": moving.measure,
    "conversions": lambda stand: conversions.measure(stand, say),
    "batch": lambda stand: batch.measure(stand, say),
}


def say(line: str) -> None:
    console.print(f"[dim]{line}[/dim]")


def main(wanted: list[str]) -> int:
    if unknown := set(wanted) - set(PARTS):
        console.print(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
        return 2
    figures: list[Figure] = []
    with standing(say) as stand:
        for name in wanted or PARTS:
            say(f"benchmark: {name}")
            figures += PARTS[name](stand)
            write(figures, RESULT)
    Console(width=None if sys.stdout.isatty() else 160).print(as_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
