"""Commands about jobs that were submitted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.output import Json

if TYPE_CHECKING:
    from farm.client import Job
    from farm.client.download import Fetched
    from farm.wire.jobs import JobView, LogView

MOST_JOBS = 500
"""As many as the API lists at once."""
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `farm submit` printed it.")]


def add_to(app: typer.Typer, panel: str) -> None:
    for command in (status, watch, logs, report, cancel, retry, download, jobs):
        examples = _EXAMPLES[command.__name__]
        app.command(rich_help_panel=panel, epilog="Examples:\n\n" + "\n\n".join(f"  {e}" for e in examples))(command)


def status(job: JobId, json: Json = False) -> None:
    """Show where a job stands."""
    from farm.cli.errors import show_reasons
    from farm.cli.output import print_json

    one = _job(job)
    if json:
        report = one.raw_report()
        print_json({key: value for key, value in report.items() if key != "results"} | _counts(one.view))
        return
    typer.echo(_status_line(one.view))
    for step in one.view.progress.running:
        typer.echo(f"  {_plain(step)}")
    show_reasons(one.view.reasons)


def watch(job: JobId, json: Json = False) -> None:
    """Follow a job until it has ended, then print its report. Ctrl-C detaches."""
    from farm.cli.watching import watch_to_end

    watch_to_end(_job(job), json=json)


def logs(
    job: JobId,
    step: Annotated[str | None, typer.Option(help="Only this step: its id, or a stage's name.")] = None,
    json: Json = False,
) -> None:
    """Print what the tools of each step said."""
    from farm.cli.output import print_messages, say

    listed = [log for log in _job(job).logs() if step is None or step in (log.step, log.stage)]
    if json:
        print_messages(listed)
        return
    if not listed:
        say(f"Job {job} has no log{f' of step {step!r}' if step else ' yet'}.")
    for log in listed:
        _print_log(log)


def report(
    job: JobId,
    json: Json = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as one page.")] = None,
) -> None:
    """Print a job's report: a table, JSON, or a page that stands alone."""
    from farm.cli.watching import show_report

    one = _job(job)
    if html is None:
        raise typer.Exit(show_report(one, json=json))
    _write_page(one, html)
    if json:
        raise typer.Exit(show_report(one, json=True))


def cancel(job: JobId, json: Json = False) -> None:
    """Cancel a job; what it shares with other jobs goes on for them."""
    from farm.cli.output import print_json

    view = _job(job).cancel()
    if json:
        print_json(view.model_dump(mode="json"))
    else:
        typer.echo(_status_line(view))


def retry(
    job: JobId,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show progress until the job has ended.")] = False,
    json: Json = False,
) -> None:
    """Submit a job's request again, as a new job that refers to the old one."""
    from farm.cli.output import print_json, say
    from farm.cli.watching import watch_to_end

    again = _job(job).retry()
    if wait:
        say(f"Submitted job {again.id}, a retry of {job}.")
        watch_to_end(again, json=json)
    elif json:
        print_json({"job": again.id, "retry_of": job})
    else:
        typer.echo(again.id)


def download(
    job: JobId,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder named after the job by default.")] = None,
    json: Json = False,
) -> None:
    """Fetch every result's files, one folder per model, target, runtime and recipe; run it again to resume."""
    from farm.cli.output import print_json, say
    from farm.cli.progress import transfer_bars

    one, folder = _job(job), to or Path(job)
    with transfer_bars("Fetching") as on_file:
        fetched = one.download(folder, on_file=on_file)
    if json:
        print_json({"folder": str(folder), "files": [_fetched_json(file) for file in fetched]})
    elif fetched:
        typer.echo(_fetched_summary(fetched, folder))
        if not one.ended:
            say(f"Job {job} still runs ({one.state}): run this again for the rest when it has ended.")
    else:
        say(f"Job {job} ({one.state}) has published no files{'' if one.ended else ' yet'}.")


def jobs(
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    label: Annotated[str | None, typer.Option(metavar="K=V", help="Only jobs with this label.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_JOBS, help="How many, newest first.")] = 20,
    before: Annotated[datetime | None, typer.Option(help="Only jobs submitted before this time (UTC).")] = None,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    from farm.cli.output import print_messages, say
    from farm.client import Client

    with Client() as client:
        until = before.replace(tzinfo=UTC) if before else None
        views = client.jobs(state=state, label=label, limit=min(limit + 1, MOST_JOBS), before=until)
    views, more = views[:limit], len(views) > limit or len(views) == MOST_JOBS
    if json:
        print_messages(views)
    else:
        _print_jobs(views)
    if more:
        since = (views[-1].created.astimezone(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S")
        say(f"These are the newest {len(views)}. See more: --limit N (at most {MOST_JOBS}), or --before {since}")


def _print_jobs(views: list[JobView]) -> None:
    from farm.cli.output import print_table

    lines = [(view.job, view.name or "", view.state, _when(view), _steps(view), _verdicts(view)) for view in views]
    print_table(("job", "name", "state", "created", "steps", "results"), lines, empty="No such job yet.")


def _job(job: str) -> Job:
    from farm.client import Client

    return Client().job(job)


def _status_line(view: JobView) -> str:
    name = f" {_plain(view.name)}" if view.name else ""
    verdicts = f", {_verdicts(view)}" if view.results_by_verdict else ""
    return f"{view.job}{name}: {view.state}, {_steps(view)} steps done{verdicts}"


def _counts(view: JobView) -> dict[str, Any]:
    return view.model_dump(mode="json", include={"results_total", "results_by_verdict", "progress"})


def _steps(view: JobView) -> str:
    return f"{view.progress.steps_done}/{view.progress.steps_total}"


def _verdicts(view: JobView) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in view.results_by_verdict.items())


def _when(view: JobView) -> str:
    return view.created.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(text: str) -> str:
    from farm.report.text import plain

    return plain(text)


def _print_log(log: LogView) -> None:
    from farm.client.logs import read_log
    from farm.report.text import plain

    host = f" on {log.host}" if log.host else ""
    typer.echo(f"== {log.stage} ({log.step}), attempt {log.attempt}{host}: {log.state}")
    if log.url is None:
        typer.echo("(no log yet)" if log.state in ("running", "stopping") else "(it printed nothing)")
        return
    for line in read_log(log.url):
        typer.echo(plain(line, keep="\t"))


def _write_page(job: Job, path: Path) -> None:
    from farm.cli.output import say
    from farm.domain.errors import BadRequest
    from farm.report.page import render_html

    try:
        path.write_text(render_html(job.report()), encoding="utf-8")
    except OSError as exc:
        raise BadRequest(f"{str(path)!r} can't be written: {exc.strerror}.") from exc
    say(f"Wrote {path}.")


def _fetched_json(file: Fetched) -> dict[str, Any]:
    return {"path": str(file.path), "sha256": file.sha256, "size_bytes": file.size_bytes, "how": file.how}


def _fetched_summary(fetched: list[Fetched], folder: Path) -> str:
    from farm.report.text import size

    ways = [file.how for file in fetched]
    counted = ", ".join(f"{ways.count(way)} {way}" for way in dict.fromkeys(ways))
    total = size(sum(file.size_bytes for file in fetched))
    return f"{len(fetched)} files, {total}, every digest right ({counted}), are in {folder}/"


_EXAMPLES = {
    "status": ("farm status JOB", "farm status JOB --json"),
    "watch": ("farm watch JOB",),
    "logs": ("farm logs JOB", "farm logs JOB --step onnx-to-tflite"),
    "report": ("farm report JOB", "farm report JOB --json > report.json", "farm report JOB --html report.html"),
    "cancel": ("farm cancel JOB",),
    "retry": ("farm retry JOB --wait",),
    "download": ("farm download JOB", "farm download JOB --to build/models"),
    "jobs": ("farm jobs", "farm jobs --state failed --label team=vision --json"),
}
