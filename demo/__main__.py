"""Run the demo (`make demo`), or stop the farm it left up (`python -m demo stop`)."""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path

from rich.console import Console

from demo.models import prepare
from farm.cli import main as cli
from farm.cli.errors import DETACHED, OK
from farm.client import Client, Job
from farm.domain.recipe import BASELINE, RECIPES
from farm.local import Stack
from farm.report.model import Report, Result

DATA = Path(".farm")
EXPECTED = 12
console = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> int:
    """Prepare, start or adopt the stack, submit, show what came out; 0 when every artifact holds what it promises."""
    if sys.argv[1:] == ["stop"]:
        return cli.run(["down"])
    started = time.monotonic()
    job_file = prepare(DATA / "demo", lambda line: console.print(f"[dim]{line}[/dim]"))
    if code := cli.run(["up", "--detach"]):
        return code
    run = uuid.uuid4().hex
    code = cli.run(["submit", "--file", str(job_file), "--label", f"run={run}", "--wait"])
    client = Client(data=DATA)
    submitted = client.jobs(label=f"run={run}")
    if not submitted:
        return code or 1
    job = client.job(submitted[0].job)
    report = job.report()
    _say_where(job)
    if stopped := stopped_by_hand(report, code):
        console.print(stopped)
        return OK
    problems = _problems(report)
    for problem in problems:
        console.print(f"[red]{problem}[/red]")
    console.print(f"{_reused(report)} {time.monotonic() - started:.0f} s in all.")
    return code or int(bool(problems))


def stopped_by_hand(report: Report, code: int) -> str | None:
    """Say how to go on where somebody cancelled the job or left it to itself, which is no failure of the demo."""
    if report.state == "cancelled":
        return "The demo's job was cancelled. Run `make demo` again: what was done by then is taken up, not done anew."
    return "The demo's job goes on. `make demo` shares its work and waits for it." if code == DETACHED else None


def _problems(report: Report) -> list[str]:
    """Say what keeps the demo from being a success; a busy machine or a slower int8 does not."""
    results = report.results
    missing = [f"{len(results)} results instead of {EXPECTED}."] if len(results) < EXPECTED else []
    failed = [f"{_name(r)} failed: {r.message}" for r in results if r.verdict == "failed"]
    inexact = [
        f"{_name(r)} is degraded: SQNR {r.numerics.sqnr_db if r.numerics else None} dB (float32 needs "
        f"{RECIPES[BASELINE].degraded_below_db:g}), accuracy {r.accuracy.value if r.accuracy else 'not scored'}."
        for r in results
        if r.recipe == BASELINE and "degraded" in (r.verdicts or ())
    ]
    return missing + failed + inexact


def _say_where(job: Job) -> None:
    found = Stack(DATA).info()
    if found is None:
        return
    console.print(f"\nReport    farm report {job.id}, or {found.web}jobs/{job.id} (sign in with the token)")
    console.print(f"Files     farm download {job.id} --to build/demo")
    console.print(f"Flower    {found.flower.url}   user {found.flower.user}, password {found.flower.password}")
    console.print(f"S3        {found.s3.endpoint}, bucket {found.s3.bucket}; keys and token in {DATA}/stack.json")
    console.print("Stop it   make demo-stop")


def _reused(report: Report) -> str:
    steps = {step.step: step.reused for result in report.results for step in result.steps}
    return f"{sum(bool(reused) for reused in steps.values())} of {len(steps)} steps were reused."


def _name(result: Result) -> str:
    return f"{result.model}/{result.target_runtime}/{result.recipe}"


if __name__ == "__main__":
    sys.exit(main())
