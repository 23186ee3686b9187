"""Follow a job to its end, then print its report and exit as it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from farm.cli.errors import DETACHED, OK, report_exit_code, show_reasons
from farm.cli.output import print_json, say, stdout

if TYPE_CHECKING:
    from farm.client import Job


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
