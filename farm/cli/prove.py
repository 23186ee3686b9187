"""`farm prove`: what someone with a real board runs for ten minutes, and sends us the file it writes."""

from __future__ import annotations

import json as json_
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm import __version__
from farm.cli.output import Json
from farm.domain.errors import BadRequest, MissingFile, NoLiveHost

if TYPE_CHECKING:
    from farm.client import Client
    from farm.wire.hosts import HostView, SelfTestView

POLL_S = 2.0
DEFAULT_KEY = Path("~/.config/edge-model-farm/prove.key")
EXAMPLES = """
Examples:

  farm prove                                      # the host on this machine

  farm prove --host pi-kitchen --profile raspberry-pi-4 --url http://farm.lan:8765

  farm prove --host pi-kitchen --model mobilenet-v2-224-float32=mobilenet_v2.tflite

  farm prove verify prove-pi-kitchen.json
"""


def add_to(app: typer.Typer, panel: str) -> None:
    group = typer.Typer(invoke_without_command=True)
    group.callback(epilog=EXAMPLES)(prove)
    group.command("verify", epilog="Examples:\n\n  farm prove verify prove-pi-kitchen.json")(verify)
    app.add_typer(group, name="prove", rich_help_panel=panel)


def prove(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="The host; the one on this machine when left out.")] = None,
    profile: Annotated[str, typer.Option(help="What a host that has not joined yet is enrolled as.")] = "auto",
    url: Annotated[str | None, typer.Option(metavar="URL", help="The farm's address as the board reaches it.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A model of a published table (farm profiles docs), to be compared."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="prove-HOST.json by default.")] = None,
    key: Annotated[Path, typer.Option(help="Signs the report; made when it is missing.")] = DEFAULT_KEY,
    join_within: Annotated[float, typer.Option(metavar="SECONDS", help="How long a new host may take to join.")] = 900,
    json: Json = False,
) -> None:
    """Prove a host: have it enrolled and tested, measure, compare with published latencies, write a signed report.

    An emulated host is called emulated, whatever it measured. Exit code 1 when the host is not proven.
    """
    if context.invoked_subcommand is not None:
        return
    from farm.cli.errors import FAILED
    from farm.cli.output import print_json, say
    from farm.client import Client
    from farm.domain.proof import Proof
    from farm.report.signing import own_key, signed

    files = dict(_files(model or ()))
    with Client() as client:
        found = _joined(client, host, profile, url, join_within)
        say(f"Host {found.name} ({found.profile}) tests itself; this takes some minutes.")
        report = _report(client, found, files)
    document = signed(report, own_key(key.expanduser()))
    path = output or Path(f"prove-{found.name}.json")
    path.write_text(json_.dumps(document, indent=1) + "\n", encoding="utf-8")
    if json:
        print_json(document)
    else:
        _print(report)
        say(
            f"Wrote {path}; please send it to the project. It names the host and its hardware; it holds no address and "
            "no serial number."
        )
    if report["verdict"] == Proof.NOT_PROVEN:
        raise typer.Exit(FAILED)


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What farm prove wrote.", show_default=False)],
    signer: Annotated[str | None, typer.Option(help="The key's fingerprint that you expect.")] = None,
    json: Json = False,
) -> None:
    """Check a report's signature, and conclude again from what it measured and this farm's own published tables.

    Exit code 2 when it does not hold.
    """
    from farm.cli.output import print_json
    from farm.domain.errors import BadData
    from farm.domain.proof import FORMAT, compare, conclude
    from farm.report.signing import verified

    try:
        report, key = verified(json_.loads(file.read_text(encoding="utf-8")))
    except OSError as exc:
        raise MissingFile(f"{file} can't be read: {exc.strerror}.") from exc
    except ValueError as exc:
        raise BadData(f"{file} is no JSON: {exc}.") from exc
    if report.get("format") != FORMAT:
        raise BadData(f"{file} has format {report.get('format')!r}; this farm reads {FORMAT}.")
    if signer is not None and signer != key:
        raise BadData(f"{file} was signed by {key}, not by {signer}.")
    _refuse_foreign_figures(file, report)
    verdict, reasons = conclude(report)
    compared = compare(report["published"], report["measurements"])
    if (verdict, reasons, compared) != (report["verdict"], report["reasons"], report["comparisons"]):
        raise BadData(f"{file} says {report['verdict']!r}; what it holds comes to {verdict.value!r}.")
    if json:
        print_json({"signed_by": key, **report})
        return
    _print(report)
    typer.echo(f"The signature holds. Signed by key {key}; whose key that is, the file can't say.")


def _refuse_foreign_figures(file: Path, report: Mapping[str, Any]) -> None:
    """See that a report compares with the figures that this farm knows as published, and with all of them.

    Raises:
        BadData: other ones, or a profile that is unknown here.
    """
    from farm.domain.errors import BadData
    from farm.domain.proof import foreign_figures

    profile = report["host"]["profile"]
    known = _published(profile)
    if known is None:
        raise BadData(f"{file} is of profile {profile!r}, which this farm does not know.")
    added, left_out = foreign_figures(report["published"], known)
    told = [*(f"it alone has {one}" for one in added), *(f"it leaves out {one}" for one in left_out)]
    if told:
        raise BadData(
            f"{file} does not compare with the published figures of {profile}: {'; '.join(told)}.",
            remedy=f"Read it with the farm that wrote it (version {report.get('farm_version', 'unknown')}).",
        )


def _published(profile: str) -> list[dict[str, Any]] | None:
    """List the published latencies of a profile; None where there is no such profile."""
    from hardware_profiles.loader import load_profiles

    known = load_profiles().get(profile)
    return None if known is None else [one.model_dump(mode="json") for one in known.reference_latencies]


def _files(models: Sequence[str]) -> Iterator[tuple[str, Path]]:
    for text in models:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise BadRequest(f"--model {text!r} is not of the form NAME=FILE.")
        if not Path(path).exists():
            raise MissingFile(f"{path}, given for {name}, does not exist.")
        yield name, Path(path)


def _joined(client: Client, name: str | None, profile: str, url: str | None, within_s: float) -> HostView:
    """Find the host; one that never joined is enrolled, its command shown, and waited for."""
    from farm.cli.hosts import install_command
    from farm.cli.output import say

    live = [one for one in client.hosts() if one.state == "live"]
    found = [one for one in live if one.name == name] if name else [one for one in live if one.can_measure]
    if len(found) == 1:
        return found[0]
    if name is None:
        raise NoLiveHost(
            f"{len(found)} live hosts can measure ({', '.join(one.name for one in found) or 'none'}); one is proven.",
            remedy="Name it: farm prove --host NAME.",
        )
    enrolment = client.host_admin.enroll(name, profile)
    say(f"Run this on {name}, as root, and leave this command running:")
    typer.echo(install_command(enrolment, (url or client.connection.address.url).rstrip("/")))
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        for one in client.hosts():
            if one.name == name and one.state == "live":
                return one
        time.sleep(POLL_S)
    raise NoLiveHost(f"{name} did not join within {within_s:.0f} s.", remedy="See its log, then run this again.")


def _report(client: Client, host: HostView, files: Mapping[str, Path]) -> dict[str, Any]:
    from farm.domain.proof import FORMAT, compare, conclude

    published = _published(host.profile) or []
    tests = _tested(client, host)
    measured = [*_of_tests(client, tests), *_measured(client, host, files, published)]
    body: dict[str, Any] = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "farm_version": __version__,
        "host": _host(host),
        "self_tests": [test.model_dump(mode="json", exclude={"job"}) for test in tests],
        "measurements": measured,
        "published": published,
        "comparisons": compare(published, measured),
    }
    verdict, reasons = conclude(body)
    return {**body, "verdict": verdict.value, "reasons": reasons}


def _host(host: HostView) -> dict[str, Any]:
    """Tell of the host what says which hardware it is, and nothing of its owner."""
    told = ("architecture", "kernel", "cpu", "cores", "memory_bytes", "board", "sensors", "throttles", "emulation")
    return {
        **{name: getattr(host, name) for name in ("name", "profile", "can_measure", "emulated", "isolation")},
        "environments": host.environments,
        "facts": {name: host.facts.get(name) for name in (*told, "virtualization", "container")},
    }


def _tested(client: Client, host: HostView) -> list[SelfTestView]:
    asked = {(one.runtime, one.asked) for one in client.host_admin.self_test(host.name)}
    while True:
        tests = [one for one in client.host_admin.self_tests(host.name) if (one.runtime, one.asked) in asked]
        if all(one.verdict != "running" for one in tests):
            return tests
        time.sleep(POLL_S)


def _of_tests(client: Client, tests: Sequence[SelfTestView]) -> list[dict[str, Any]]:
    """Take the measurements of the reference model out of the self-tests' jobs."""
    return [
        one for test in tests if test.job for one in _results(client.job(test.job).report().model_dump(mode="json"))
    ]


def _measured(
    client: Client, host: HostView, files: Mapping[str, Path], published: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Measure the models of published tables on the host, with the runtime and threads that the table names."""
    done = []
    for name, path in files.items():
        rows = [row for row in published if row["model"] == name]
        runtimes = sorted({row["runtime"] for row in rows}) or ["litert" if path.suffix == ".tflite" else "onnxruntime"]
        for threads in sorted({row.get("threads") or 1 for row in rows}) or [1]:
            job = client.submit(
                path,
                [host.profile],
                runtimes=runtimes,
                host=host.name,
                name=f"prove {name}",
                threads=[threads],
                wait=True,
            )
            done += [{**one, "model": name} for one in _results(job.report().model_dump(mode="json"))]
    return done


def _results(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for result in report["results"]:
        summary, conditions = result.get("execution_summary") or {}, result.get("conditions") or {}
        if summary.get("p50") is None:
            continue
        yield {
            "model": result["model"],
            "runtime": result["target_runtime"],
            "threads": summary.get("threads"),
            "p50_ms": summary["p50"] / 1000,
            "p90_ms": summary["p90"] / 1000 if summary.get("p90") else None,
            "ci95_ms": [value / 1000 for value in summary.get("ci95") or ()],
            "noise_floor_ratio": summary.get("noise_floor_ratio"),
            "valid": bool(conditions.get("valid")),
            "emulated": conditions.get("emulated") is not False,
            "reasons": list(conditions.get("reasons") or ()),
            "tool_versions": {one["name"]: one["version"] for one in result.get("tool_versions") or ()},
        }


def _print(report: Mapping[str, Any]) -> None:
    from farm.cli.output import print_table
    from farm.report.text import plain

    lines = [
        (
            one["model"],
            one["runtime"],
            str(one["threads"] or "–"),
            "emulated"
            if one["emulated"]
            else f"{one['p50_ms']:.3g} ms"
            if one["valid"]
            else f"✗({one['p50_ms']:.3g} ms)",
            "" if one["valid"] else ", ".join(one["reasons"]),
        )
        for one in report["measurements"]
    ]
    print_table(("model", "runtime", "threads", "p50", "why not valid"), lines, empty="Nothing was measured.")
    rows = [
        (one["model"], one["runtime"], f"{one['latency_ms']:g} ms", one["result"], one["source"])
        for one in report["comparisons"]
    ]
    print_table(
        ("published model", "runtime", "published", "this host", "source"),
        rows,
        empty="Nothing is published to compare.",
    )
    typer.echo(f"{report['host']['name']} ({report['host']['profile']}): {report['verdict']}")
    for reason in report["reasons"]:
        typer.echo(f"  {plain(reason)}")
