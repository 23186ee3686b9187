"""`farm profiles …`: check profile files, describe them to editors, write their page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farm.cli.output import Json


def add_to(app: typer.Typer, panel: str) -> None:
    group = typer.Typer(help="Hardware profiles: check files, JSON schema, documentation.", no_args_is_help=True)
    for command, examples in (
        (lint, ("farm profiles lint", "farm profiles lint my-board.yaml")),
        (schema, ("farm profiles schema > profile.schema.json",)),
        (docs, ("farm profiles docs > docs/profiles.md",)),
    ):
        group.command(epilog="Examples:\n\n" + "\n\n".join(f"  {one}" for one in examples))(command)
    app.add_typer(group, name="profiles", rich_help_panel=panel)


def lint(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE…", help="All shipped profiles when left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Name every problem of profile files, one a line: unknown keys, impossible features, circles; exit code 2 then.

    A file may extend the shipped profiles, and stands in for one of its own name.
    """
    from farm.cli.errors import OK, REFUSED
    from farm.cli.output import print_json
    from farm.report.text import plain
    from hardware_profiles.loader import FOLDER
    from hardware_profiles.loader import lint as find_problems

    problems = find_problems(files or ())
    if json:
        print_json({"problems": problems})
    else:
        count = len(files) if files else len(list(FOLDER.glob("*.yaml")))
        typer.echo("\n".join(plain(one) for one in problems) or f"{count} profiles hold together.")
    raise typer.Exit(REFUSED if problems else OK)


def schema() -> None:
    """Print the JSON schema of profile files, for editors."""
    from farm.cli.output import print_json
    from hardware_profiles.loader import json_schema

    print_json(json_schema())


def docs() -> None:
    """Print the page docs/profiles.md, written from the profiles."""
    from hardware_profiles.loader import load_profiles
    from hardware_profiles.page import page

    typer.echo(page(load_profiles()), nl=False)
