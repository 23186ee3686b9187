"""The matrix as a document, and what a document says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from farm.knowledge import diagnose

STATES = ("succeeded", "refused", "failed")
IDENTICAL_DB = 200.0
LONGEST = 400
EXPLAINED = (
    (
        "No way to quantize this model",
        "Every way that the stage knows was tried, and each gave a file that does not open, run or stay finite; the "
        "failure's evidence says of each what it was.",
    ),
    (
        "none can be folded, fused or dropped",
        "This model is so small that its graph cannot be made any better; the recipe says so, and gives the same "
        "file no other name.",
    ),
    (
        "could be set to zero",
        "A quantized model's weights are integers behind other operators, so none of a float layer is found. Prune the "
        "float model.",
    ),
    (
        "DequantizeLinear",
        "onnx2torch, the only tool that leads from ONNX to SavedModel here, has no quantized operators. Go on in ONNX, "
        "or submit the float model.",
    ),
    (
        "Op builtin_code out of range",
        "The Edge TPU compiler was made before this operator was. Replace it (GELU by its tanh form).",
    ),
)
"""Words of a failure, and what they mean for the cell."""
_LINE = re.compile(r"^- `([\w-]+)` → `([\w-]+)`, `([\w-]+)`: (succeeded|refused|failed)")
_STAGES = re.compile(r"^Made with: (.*)\.$", re.MULTILINE)
_TOTAL = re.compile(r"^\*\*(\d+) cells\*\*.*: (\d+) succeeded, (\d+) refused, (\d+) failed\.$", re.MULTILINE)
_PLACES = re.compile(r"(?<![\w.])/(?:[\w.+@-]+/)+")


@dataclass(frozen=True)
class Cell:
    """One cell: how it ended, and the route or the reason; `before` are attempts that failed first."""

    source: str
    artifact: str
    recipe: str
    state: str
    why: str
    sqnr_db: float | None = None
    before: tuple[str, ...] = ()
    reachable: bool = True

    def told(
        self, state: str, why: str, *, sqnr_db: float | None = None, before: Sequence[str] = (), reachable: bool = True
    ) -> Cell:
        return replace(self, state=state, why=why, sqnr_db=sqnr_db, before=tuple(before), reachable=reachable)

    @property
    def short(self) -> str:
        if self.state != "succeeded":
            return ("refused" if self.reachable else "–") if self.state == "refused" else "**failed**"
        if self.sqnr_db is None:
            return "as it is" if not self.why else "yes"
        return "exact" if self.sqnr_db >= IDENTICAL_DB else f"{self.sqnr_db:.0f} dB"


def page(cells: Sequence[Cell], stages: Sequence[str]) -> str:
    return "\n".join(_page(cells, stages)) + "\n"


def _page(cells: Sequence[Cell], stages: Sequence[str]) -> Iterator[str]:
    states = Counter(cell.state for cell in cells)
    counts = ", ".join(f"{states[state]} {state}" for state in STATES)
    sizes = [len({getattr(cell, name) for cell in cells}) for name in ("source", "artifact", "recipe")]
    yield "# The matrix: what becomes of every source format"
    yield "\nMade by `make matrix` from a run over a small real model of each source format; not to be edited."
    yield f"\n**{len(cells)} cells** ({sizes[0]} sources × {sizes[1]} artifacts × {sizes[2]} recipes): {counts}."
    yield "\nA figure is the lowest SQNR that a stage of the route proved against the model it was given; `–` is a cell"
    yield "that no chain of stages makes. Every cell, with its route, reason or evidence, is listed below the tables."
    yield "\n`refused` is said before any work, or where a tool is not installed here; **failed** is a cell whose every"
    yield "way was tried, and a tool could not."
    yield from _explained([cell for cell in cells if cell.state == "failed"])
    yield f"\nMade with: {', '.join(stages)}."
    for recipe in dict.fromkeys(cell.recipe for cell in cells):
        yield from _table(recipe, [cell for cell in cells if cell.recipe == recipe])
    yield "\n## Cells that have a route\n"
    yield from (_line(cell) for cell in cells if cell.reachable)
    yield "\n## Cells that no chain of stages makes\n"
    unmade = sorted((cell for cell in cells if not cell.reachable), key=lambda cell: cell.why)
    for why, group in groupby(unmade, key=lambda cell: cell.why):
        alike = list(group)
        yield f"- {why} ({len(alike)}): {_named(alike)}"


def _explained(failed: Sequence[Cell]) -> Iterator[str]:
    """Say why cells fail, one line for each reason."""
    reasons = {cell: _reason(cell.why) for cell in failed}
    unknown = [cell for cell, why in reasons.items() if why is None]
    if failed:
        yield ""
    for why in dict.fromkeys(filter(None, (*(why for _, why in EXPLAINED), *reasons.values()))):
        if alike := [cell for cell, given in reasons.items() if given == why]:
            yield f"- {_named(alike)}: {why}"
    if unknown:
        yield f"- {_named(unknown)}: not explained yet; their lines below hold what the tools said."


def _reason(said: str) -> str | None:
    """Explain a failure by the words above, else as the knowledge base does; None where neither knows it."""
    found = diagnose(said)
    known = f"{found.cause} {found.remedy}" if found else None
    return next((why for words, why in EXPLAINED if words in said), known)


def _named(cells: Sequence[Cell]) -> str:
    return "; ".join(f"`{cell.source}` → `{cell.artifact}`, `{cell.recipe}`" for cell in cells)


def _table(recipe: str, cells: Sequence[Cell]) -> Iterator[str]:
    yield f"\n## {recipe}\n"
    if not any(cell.reachable for cell in cells):
        yield f"None of its {len(cells)} cells has a route."
        return
    artifacts = list(dict.fromkeys(cell.artifact for cell in cells))
    yield f"| from \\ to | {' | '.join(artifacts)} |"
    yield "|---" * (len(artifacts) + 1) + "|"
    for source, row in groupby(cells, key=lambda cell: cell.source):
        yield f"| {source} | {' | '.join(cell.short for cell in row)} |"


def _line(cell: Cell) -> str:
    figure = f" ({cell.short})" if cell.state == "succeeded" and cell.sqnr_db is not None else ""
    why = _shown(cell.why) or "the model as it is"
    before = f"; before it: {'; '.join(map(_shown, cell.before))}" if cell.before else ""
    return f"- `{cell.source}` → `{cell.artifact}`, `{cell.recipe}`: {cell.state}{figure}: {why}{before}"


def _shown(text: str) -> str:
    """Put a tool's words on one short line without the folders of the machine it ran on."""
    line = _PLACES.sub("", " ".join(text.split())).replace("|", "\\|")
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


Address = tuple[str, str, str]


def read_states(document: str) -> dict[Address, str]:
    """Read the cells that have a route, and how they ended."""
    found = (_LINE.match(line) for line in document.splitlines())
    return {(line[1], line[2], line[3]): line[4] for line in found if line}


def read_unmade(document: str) -> set[Address]:
    _, _, unmade = document.partition("## Cells that no chain of stages makes")
    return set(re.findall(r"`([\w-]+)` → `([\w-]+)`, `([\w-]+)`", unmade))


def read_stages(document: str) -> list[str]:
    found = _STAGES.search(document)
    return found[1].split(", ") if found else []


def read_totals(document: str) -> tuple[int, ...]:
    found = _TOTAL.search(document)
    return tuple(map(int, found.groups())) if found else ()
