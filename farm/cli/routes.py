"""The format graph for the terminal: edges, or the chains between two formats, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from farm.report.text import plain

if TYPE_CHECKING:
    from farm.wire.jobs import ChainView, RouteView

WIDTH = 80


def overview_lines(views: Sequence[RouteView]) -> Iterator[str]:
    """Print the formats that stages lead to from each format, and how to see more."""
    reached: dict[str, dict[str, None]] = {}
    for view in sorted(views, key=lambda view: (view.source or "", view.target or "")):
        if view.source and view.target and view.source != view.target:
            reached.setdefault(view.source, {})[view.target] = None
    for source, ends in reached.items():
        yield from _wrapped(f"{source} -> {', '.join(ends)}", "")
    missing = sorted({view.stage for view in views if not view.available})
    if missing:
        yield from _wrapped(f"{len(missing)} of {len(views)} stages are not available now: {', '.join(missing)}", "")
    yield ""
    yield "The ways of a file, ranked:        farm routes --from model.pt2 --to litert"
    yield "A format's stages, tools, hosts:   farm routes --from onnx"
    yield "Every stage:                       farm routes --all"


def edge_lines(views: Sequence[RouteView]) -> Iterator[str]:
    """Print every stage under the formats it connects, with its tools and who has them."""
    ordered = sorted(views, key=lambda view: (view.source or "", view.target or ""))
    for (source, target), edges in groupby(ordered, key=lambda view: (view.source or "*", view.target or "*")):
        yield f"{source} -> {target}"
        for view in edges:
            yield from _edge(view)


def chain_lines(views: Sequence[ChainView]) -> Iterator[str]:
    """Print the chains of each recipe in order; `*` marks the one that is used, `+` the ones tried after it."""
    yield "* used first   + tried next   - not tried   ! not available"
    for recipe, chains in groupby(views, key=lambda view: view.recipe):
        yield f"{plain(recipe)}"
        for view in chains:
            mark = "!" if not view.available else "*" if view.used else "+" if view.tried else "-"
            stages = " -> ".join(view.stages) or "the model as it is"
            yield from _wrapped(f"{mark} {view.place}. {stages}  ({view.format})", "  ")
            if view.why_not:
                yield from _wrapped(view.why_not, "       ")


def _edge(view: RouteView) -> Iterator[str]:
    recipe = f", recipe {view.recipe}" if view.recipe else ""
    yield from _wrapped(f"{view.stage}  ({view.kind}{recipe}, environment {view.environment})", "  ")
    yield from _wrapped(", ".join(f"{tool} {version}" for tool, version in view.tools.items()), "      ")
    if view.available:
        yield from _wrapped(f"yes: on {', '.join(view.hosts)}" if view.hosts else "yes", "      ")
    else:
        yield from _wrapped(f"no: {view.why_not}", "      ")
        yield from _wrapped(view.way_out or "", "      ")


def _wrapped(line: str, indent: str) -> list[str]:
    """Wrap between words only, so that a name or a command can be copied."""
    return textwrap.wrap(
        plain(line),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
