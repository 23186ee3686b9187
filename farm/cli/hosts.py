"""`farm host …`: enroll a board, revoke it, take it out of rotation, have it test itself."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from farm.cli.output import Json

if TYPE_CHECKING:
    from farm.wire.hosts import Enrolment, SelfTestView

Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name.", show_default=False)]
POLL_S = 1.0


def add_to(app: typer.Typer, panel: str) -> None:
    group = typer.Typer(help="Enroll hosts, test them, take them out of rotation.", no_args_is_help=True)
    for command, name in (
        (enroll, "enroll"),
        (revoke, "revoke"),
        (quarantine, "quarantine"),
        (release, "release"),
        (selftest, "selftest"),
    ):
        group.command(name, epilog="Examples:\n\n" + "\n\n".join(f"  {one}" for one in _EXAMPLES[name]))(command)
    app.add_typer(group, name="host", rich_help_panel=panel)


def enroll(
    name: Name,
    profile: Annotated[str, typer.Option(help="What its worker must prove to be; auto takes what it is.")] = "auto",
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The farm's address as the board reaches it.", show_default=False)
    ] = None,
    container: Annotated[bool, typer.Option("--container", help="Print the command that runs the image.")] = False,
    json: Json = False,
) -> None:
    """Make a place for a host, and print the one command that makes a board join; it holds the host's own token.

    The command installs the farm's own version of the worker, the environments of the profile's runtimes and a systemd
    unit; with --container it runs the worker's image, with what its profile needs of the machine. Enrolling a name
    again ends its older token.
    """
    from farm.cli.container import container_commands
    from farm.cli.output import print_json, say
    from farm.client import Client

    with Client() as client:
        enrolment = client.host_admin.enroll(name, profile)
        address = (url or client.connection.address.url).rstrip("/")
    images = container_commands(enrolment, address) if container else {}
    commands = list(images.values()) or [install_command(enrolment, address)]
    if json:
        only = commands[0] if len(commands) == 1 else None
        print_json({**enrolment.model_dump(mode="json"), "url": address, "command": only, "commands": images})
        return
    for warning in warnings(enrolment, address):
        say(warning)
    one_of = "" if len(commands) == 1 else f"one of these ({' or '.join(images)}, as its processor is)"
    say(f"Run {one_of or 'this'} on {name}, as root. It holds the host's token, which is not shown again:")
    for command in commands:
        typer.echo(command)


def install_command(enrolment: Enrolment, url: str) -> str:
    """Write the command that installs and starts a worker; the token reaches curl by standard input, not by `ps`."""
    token = shlex.quote(enrolment.token)
    fetch = f'printf \'header = "Authorization: Bearer %s"\\n\' "$FARM_TOKEN" | curl -fsS -K - {url}/v1/hosts/join.sh'
    return f"export FARM_TOKEN={token}; {fetch} | sh"


def warnings(enrolment: Enrolment, url: str) -> list[str]:
    """Say what would keep a board from reaching the farm."""
    told = []
    if _is_loopback(url):
        told.append(f"{url} is this machine's own address: a board needs another one. Add --url http://FARM:PORT.")
    if enrolment.redis_url is None:
        told.append("The farm does not say where its broker is: set FARM_WORKER_REDIS_URL for the API.")
    elif _is_loopback(enrolment.redis_url) and not _is_loopback(url):
        told.append(
            "The farm's broker listens on loopback: a board elsewhere can't reach it. Run Redis where boards reach it, "
            "and set FARM_WORKER_REDIS_URL for the API."
        )
    return told


def revoke(name: Name) -> None:
    """End a host's token: its worker is turned away at its next call, and what it runs goes elsewhere."""
    from farm.client import Client

    with Client() as client:
        client.host_admin.revoke(name)
    typer.echo(f"Revoked {name}. farm host enroll {name} gives it a new token.")


def quarantine(
    name: Name, reason: Annotated[str, typer.Option(help="Shown wherever the host is.", prompt="Why")]
) -> None:
    """Take a host out of rotation; what it runs goes elsewhere, and it only tests itself."""
    from farm.client import Client

    with Client() as client:
        client.host_admin.quarantine(name, reason)
    typer.echo(f"{name} is quarantined. farm host release {name} puts it back.")


def release(name: Name) -> None:
    """Put a host back into rotation; what it did before is not held against it any more."""
    from farm.client import Client

    with Client() as client:
        client.host_admin.release(name)
    typer.echo(f"{name} takes work again.")


def selftest(
    name: Name,
    wait: Annotated[bool, typer.Option(help="Wait until the tests have ended.")] = True,
    history: Annotated[
        bool, typer.Option("--history", help="List the tests so far instead of asking for one.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure the pinned reference model on a host against itself: its noise floor, its drift, its agreement.

    Exit code 1 when a test failed.
    """
    from farm.cli.errors import FAILED
    from farm.cli.output import print_messages
    from farm.client import Client

    with Client() as client:
        if history:
            tests = client.host_admin.self_tests(name)
        else:
            asked = {(one.runtime, one.asked) for one in client.host_admin.self_test(name)}
            tests = [one for one in client.host_admin.self_tests(name) if (one.runtime, one.asked) in asked]
            while wait and any(one.verdict == "running" for one in tests):
                time.sleep(POLL_S)
                tests = [one for one in client.host_admin.self_tests(name) if (one.runtime, one.asked) in asked]
    if json:
        print_messages(tests)
    else:
        _print_tests(tests)
    if not history and any(one.verdict == "failed" for one in tests):
        raise typer.Exit(FAILED)


def _print_tests(tests: Sequence[SelfTestView]) -> None:
    from farm.cli.output import print_table

    lines = [
        (
            f"{one.asked:%Y-%m-%d %H:%M}",
            one.asked_by,
            one.runtime,
            one.verdict,
            _number(one.figures.get("p50_us"), "{:.0f} µs") if not one.figures.get("emulated") else "emulated",
            _number(one.figures.get("noise_floor_ratio"), "{:.1%}") if not one.figures.get("emulated") else "–",
            _number(one.figures.get("sqnr_db"), "{:.0f} dB"),
            " ".join(one.reasons),
        )
        for one in tests
    ]
    columns = ("asked", "by", "runtime", "verdict", "p50", "noise floor", "SQNR", "why")
    print_table(columns, lines, empty="This host has not tested itself yet.")


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, (int, float)) else "–"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


_EXAMPLES = {
    "enroll": (
        "farm host enroll pi-kitchen --profile raspberry-pi-5 --url http://farm.lan:8765",
        "farm host enroll box-2 --profile x86-64-v3 --container",
        "farm host enroll coral-1 --profile coral-usb --container --url http://farm.lan:8765",
    ),
    "revoke": ("farm host revoke pi-kitchen",),
    "quarantine": ("farm host quarantine pi-kitchen --reason 'its fan is being replaced'",),
    "release": ("farm host release pi-kitchen",),
    "selftest": ("farm host selftest pi-kitchen", "farm host selftest pi-kitchen --history"),
}
