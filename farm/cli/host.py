"""Commands about this machine: what it is, and whether a farm can run here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farm.cli.output import Json


def add_to(app: typer.Typer, panel: str) -> None:
    probe_examples = "Examples:\n\n  farm probe\n\n  farm probe --root copies/raspberry-pi --json"
    app.command(rich_help_panel=panel, epilog=probe_examples)(probe)
    app.command(rich_help_panel=panel, epilog="Examples:\n\n  farm doctor\n\n  farm doctor --data /srv/farm")(doctor)


def probe(
    root: Annotated[Path, typer.Option(metavar="DIR", help="A tree of /proc and /sys copied from a machine.")] = Path(
        "/"
    ),
    json: Json = False,
) -> None:
    """Show what this machine is, which profile it has, and what keeps it from others."""
    from farm.cli.machine import describe, print_machine
    from farm.cli.output import print_json
    from farm.domain.errors import MissingFile

    if not root.is_dir():
        raise MissingFile(f"{str(root)!r} is no folder.", remedy="Name a folder that holds proc/ and sys/.")
    machine = describe(root.resolve())
    if json:
        print_json(machine.as_json())
    else:
        print_machine(machine)


def doctor(
    data: Annotated[Path, typer.Option(envvar="FARM_DATA", metavar="DIR", help="The stack's data folder.")] = Path(
        ".farm"
    ),
    json: Json = False,
) -> None:
    """Check what a farm needs here: Python, environments, isolation, disk, ports, the stack's parts."""
    from farm.cli.checkup import examine
    from farm.cli.errors import OK, UNREACHABLE
    from farm.cli.output import print_json
    from farm.report.text import plain

    findings = examine(data)
    if json:
        print_json([finding.as_json() for finding in findings])
    else:
        for finding in findings:
            typer.echo(f"{'ok      ' if finding.ok else 'problem '} {finding.what}: {plain(finding.found)}")
            if finding.remedy:
                typer.echo(f"          {plain(finding.remedy)}")
    raise typer.Exit(OK if all(finding.ok for finding in findings) else UNREACHABLE)
