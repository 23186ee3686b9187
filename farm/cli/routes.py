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
    """Print what formats lead to which, the toolchains, what is not available and why, and how to see more."""
    reached: dict[str, dict[str, None]] = {}
    for view in sorted(views, key=lambda view: (view.source or "", view.target or "")):
        if view.source and view.target and view.source != view.target:
            reached.setdefault(view.source, {})[view.target] = None
    for source, ends in reached.items():
        yield from _wrapped(f"{source} -> {', '.join(ends)}", "")
    yield from _toolchains(views)
    yield from _missing(views)
    yield ""
    yield "The ways of a file, ranked:        farm routes --from model.pt2 --to litert"
    yield "A format's stages, tools, hosts:   farm routes --from onnx"
    yield "Every stage:                       farm routes --all"


def _toolchains(views: Sequence[RouteView]) -> Iterator[str]:
    """Print each environment's tools with their versions, and which hosts have them."""
    yield ""
    yield "Toolchains:"
    ordered = sorted(views, key=lambda view: view.environment)
    for environment, its in groupby(ordered, key=lambda view: view.environment):
        stages = list(its)
        tools = {tool: version for view in stages for tool, version in sorted(view.tools.items())}
        hosts = sorted({host for view in stages for host in view.hosts})
        said = ", ".join(f"{tool} {version}" for tool, version in sorted(tools.items())) or "its own code"
        where = f"on {', '.join(hosts)}" if hosts else "on no live host"
        yield from _wrapped(f"{environment}: {said}; {where}", "  ")


def _missing(views: Sequence[RouteView]) -> Iterator[str]:
    """Print what is not available now: equal reasons once, with the way out."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for view in views:
        if not view.available:
            reasons.setdefault((view.why_not or "", view.way_out or ""), []).append(view.stage)
    if reasons:
        yield ""
        yield f"Not available now, of {len(views)} stages:"
    for (why_not, way_out), stages in reasons.items():
        yield from _wrapped(f"{', '.join(sorted(stages))}: {why_not} {way_out}", "  ")


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
