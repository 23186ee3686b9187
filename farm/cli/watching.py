"""Follow a job to its end, then print its report and exit as it ended."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from farm.cli.errors import DETACHED, OK, report_exit_code, show_reasons
from farm.cli.output import print_json, say, stdout
from farm.domain.errors import FarmUnreachable

if TYPE_CHECKING:
    from farm.client import Job

REFUSAL_S = 2.0
"""How long a submission that does not wait looks for a refusal."""
LOOK_S = 0.1


def watch_to_end(job: Job, *, json: bool) -> None:
    """Show progress, then the report; Ctrl-C leaves the job alone.

    Raises:
        Exit: with the exit code that fits the way the job ended.
    """
    from farm.cli.progress import job_progress

    try:
        with job_progress() as on_view:
            job.wait(on_view=on_view)
    except KeyboardInterrupt:
        say(f"\nDetached; job {job.id} goes on.\n  Resume:   farm watch {job.id}\n  Stop it:  farm cancel {job.id}")
        raise typer.Exit(DETACHED) from None
    raise typer.Exit(show_report(job, json=json))


def is_refused_soon(job: Job) -> bool:
    """Look for a moment whether a new job is refused; one whose inspection takes longer goes on unseen."""
    deadline = time.monotonic() + REFUSAL_S
    with suppress(FarmUnreachable):
        while job.state == "inspecting" and time.monotonic() < deadline:
            time.sleep(LOOK_S)
            job.refresh()
    return job.state == "refused"


def print_refusal(job: Job, *, json: bool) -> None:
    if json:
        print_json({"job": job.id, "state": "refused", "reasons": job.view.reasons})
    else:
        typer.echo(job.id)
        say(f"Job {job.id} was refused, before any conversion:")
        show_reasons(job.view.reasons)


def show_report(job: Job, *, json: bool) -> int:
    """Print the report and return the exit code that fits it."""
    report = job.raw_report()
    if json:
        print_json(report)
    else:
        print_human(report, job.id)
    return report_exit_code(report)


def print_human(report: dict[str, Any], job: str) -> None:
    from farm.report.model import Report
    from farm.report.table import print_report

    if report.get("reasons"):
        say(f"Job {job} was refused, before any conversion:")
        show_reasons(report["reasons"])
        return
    print_report(Report.model_validate(report), stdout())
    if report_exit_code(report) == OK and report["results"] and report["state"] == "succeeded":
        say(f"Fetch the files with: farm download {job}    Page: farm report {job} --html report.html")
