"""Commands that show what the farm has: targets, hosts, routes."""

from __future__ import annotations

from typing import Annotated

import typer

from farm.cli.output import Json, print_messages, print_table

_ROUTES_EXAMPLES = "Examples:\n\n" + "\n\n".join(
    f"  {example}" for example in ("farm routes", "farm routes --from model.pt2 --to litert", "farm routes --from onnx")
)


def add_to(app: typer.Typer, panel: str) -> None:
    app.command(rich_help_panel=panel, epilog="Examples:\n\n  farm targets\n\n  farm targets --json")(targets)
    app.command(rich_help_panel=panel, epilog="Examples:\n\n  farm hosts")(hosts)
    app.command(rich_help_panel=panel, epilog=_ROUTES_EXAMPLES)(routes)


def targets(json: Json = False) -> None:
    """List the profiles a job can ask for, and who serves each now."""
    from farm.client import Client

    with Client() as client:
        views = client.targets()
    if json:
        print_messages(views)
        return
    lines = [
        (view.name, view.title, view.architecture, " ".join(view.runtimes), " ".join(view.live_hosts) or "none")
        for view in views
    ]
    print_table(("target", "what", "arch", "runtimes", "live hosts"), lines, empty="The farm knows no targets.")


def hosts(json: Json = False) -> None:
    """List the hosts, what they serve, and what they run now."""
    from farm.client import Client

    with Client() as client:
        views = client.hosts()
    if json:
        print_messages(views)
        return
    emulated = {True: "emulated", None: "unknown", False: "real"}
    lines = [
        (
            view.name,
            view.profile,
            view.state,
            emulated[view.emulated],
            view.isolation,
            "yes" if view.can_measure else "no",
            " ".join(view.serves),
            str(len(view.running)),
            str(view.queue_length),
            "–" if view.predicted_start_s is None else f"in {view.predicted_start_s:.0f} s",
            "–" if view.noise_floor_ratio is None else f"{view.noise_floor_ratio:.1%}",
            view.reason or view.notice or "",
        )
        for view in views
    ]
    columns = (
        *("host", "profile", "state", "machine", "isolation", "measures", "serves", "running", "waiting"),
        *("start (predicted)", "noise floor", "note"),
    )
    print_table(columns, lines, empty="No host has joined yet; start one with `farm worker --profile auto`.")


def routes(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FORMAT|FILE", help="Only from this format: its name, a file's or an ending."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", metavar="FORMAT|RUNTIME", help="Only to this format, or what a runtime opens.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every stage, with its tools and hosts.")] = False,
    json: Json = False,
) -> None:
    """List what leads from format to format; with --from or --to the stages, with both whole chains, ranked."""
    from farm.cli.routes import chain_lines, edge_lines, overview_lines
    from farm.client import Client

    with Client() as client:
        edges = client.routes(source=source, target=target)
        chains = client.chains(source, target) if source and target else []
    if json:
        print_messages(chains if source and target else edges)
        return
    if not (source or target or everything):
        lines = overview_lines(edges)
    else:
        lines = chain_lines(chains) if chains else edge_lines(edges)
    typer.echo("\n".join(lines) or _no_route(source, target))


def _no_route(source: str | None, target: str | None) -> str:
    asked = "".join(f" {word} {name}" for word, name in (("from", source), ("to", target)) if name)
    near = "`farm routes --all` lists every stage; leave out --from or --to to see what comes near."
    return f"No stage leads{asked}. {near}"
