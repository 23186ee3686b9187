"""Commands that run a farm: the embedded stack, and its parts one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from farm.cli.output import Json

if TYPE_CHECKING:
    from farm.local import StackInfo

DEFAULT_DATA = Path(".farm")
Data = Annotated[Path, typer.Option(envvar="FARM_DATA", metavar="DIR", help="The stack's data folder.")]


def add_to(app: typer.Typer, panel: str) -> None:
    for command in (up, down, api, control, worker):
        examples = _EXAMPLES[command.__name__]
        app.command(rich_help_panel=panel, epilog="Examples:\n\n" + "\n\n".join(f"  {e}" for e in examples))(command)


def up(
    data: Data = DEFAULT_DATA,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once every part answers.")] = False,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the API listens.")] = None,
    allow_no_isolation: Annotated[
        bool, typer.Option("--allow-no-isolation", help="Run models of strangers without a sandbox.")
    ] = False,
    json: Json = False,
) -> None:
    """Start PostgreSQL, Redis, S3, API, control, a worker and Flower on this machine, and watch over them."""
    from farm.cli.output import print_json, say
    from farm.domain.codec import encode
    from farm.local import Stack

    overrides = {"FARM_ACCEPT_ISOLATION": '["full", "partial", "none"]'} if allow_no_isolation else {}
    stack = Stack(data, listen=listen, settings_overrides=overrides)

    def announce(info: StackInfo) -> None:
        print_json(encode(info)) if json else _print_info(info, data)

    if detach:
        announce(stack.up(on_progress=say))
    else:
        stack.run(on_progress=say, on_ready=announce)


def down(data: Data = DEFAULT_DATA, json: Json = False) -> None:
    """Stop the embedded stack; its data stays."""
    from farm.cli.output import print_json, say
    from farm.local import Stack

    stack = Stack(data)
    was_up = stack.info() is not None
    stack.down(on_progress=say)
    if json:
        print_json({"data": str(data), "stopped": was_up})
    else:
        typer.echo(f"Stopped the stack in {data}; its data stays." if was_up else f"No stack runs in {data}.")


def api() -> None:
    """Serve the HTTP API, configured by FARM_… variables or the TOML file that FARM_CONFIG names."""
    from farm.api import serve
    from farm.web.router import router

    serve(router)


def control() -> None:
    """Run the control loop; as many as wanted may run."""
    from farm.control import serve

    serve()


def worker(
    profile: Annotated[str, typer.Option(help="What this machine is: a profile's name, or auto.")] = "auto",
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Serve a root of another architecture, emulated, instead.")
    ] = None,
    cpu: Annotated[str | None, typer.Option(help="Processor to emulate in that root.")] = None,
) -> None:
    """Serve this machine as a host; one mismatch a line, and exit code 2, when it is not what the profile says."""
    if root is not None:
        from workers.launcher.launch import launch

        raise typer.Exit(launch(root, profile, cpu))
    from workers.app import serve

    serve(profile=profile)


def _print_info(info: StackInfo, data: Path) -> None:
    option = "" if data == DEFAULT_DATA else f" --data {data}"
    typer.echo(
        f"The farm is up.\n  web and API  {info.web}\n  token        {info.token}\n"
        f"  Flower       {info.flower.url}  user {info.flower.user}, password {info.flower.password}\n"
        f"  S3           {info.s3.endpoint}, bucket {info.s3.bucket}; keys in {data}/stack.json\n"
        f"Submit a model:  farm submit model.onnx --target auto --wait\nStop it:         farm down{option}"
    )


_EXAMPLES = {
    "up": ("farm up", "farm up --detach --data /srv/farm", "farm up --detach --json | jq -r .token"),
    "down": ("farm down", "farm down --data /srv/farm"),
    "api": ("FARM_CONFIG=farm.toml farm api",),
    "control": ("FARM_CONFIG=farm.toml farm control",),
    "worker": ("farm worker --profile auto", "FARM_URL=… FARM_TOKEN=… farm worker --profile raspberry-pi-5"),
}
