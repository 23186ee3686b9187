"""The `farm` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer
from typer.main import get_command

from farm import __version__
from farm.cli import compat, explain, host, hosts, jobs, measurements, profiles, prove, stack, submit, views
from farm.cli.errors import exit_code, on_unexpected, show
from farm.domain.errors import FarmError

EPILOG = (
    "Exit codes: 0 ok, 1 a result is failed (with constraints: no winner), 2 usage or refused, "
    "3 farm unreachable or broken, 4 cancelled, 130 detached by Ctrl-C. "
    "The farm is found by FARM_URL and FARM_TOKEN, else by the stack that runs in .farm here or above."
)
app = typer.Typer(
    name="farm",
    help="Models go in; verified files and honest numbers for each hardware target come out.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module, panel in (
    (submit, "Jobs"),
    (jobs, "Jobs"),
    (measurements, "Jobs"),
    (explain, "Jobs"),
    (compat, "Jobs"),
    (views, "What the farm has"),
    (stack, "Running a farm"),
    (hosts, "Running a farm"),
    (host, "This machine"),
    (profiles, "This machine"),
    (prove, "This machine"),
):
    module.add_to(app, panel)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"farm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Take what stands before a command."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        get_command(app)(args=list(arguments), prog_name="farm")
    except FarmError as error:
        show(error)
        return exit_code(error)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    return 0


def main() -> None:
    sys.excepthook = on_unexpected
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
