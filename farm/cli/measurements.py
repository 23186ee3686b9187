"""Commands about measurements that were taken: comparing two of them, and computing their statistics again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.output import Json

if TYPE_CHECKING:
    from farm.report.comparison import Compared
    from farm.report.model import Report, Result

EXIT_REGRESSED = 1
EXIT_DIFFERENT = 1


def add_to(app: typer.Typer, panel: str) -> None:
    for command in (compare, recompute):
        examples = _EXAMPLES[command.__name__]
        app.command(rich_help_panel=panel, epilog="Examples:\n\n" + "\n\n".join(f"  {e}" for e in examples))(command)


def compare(
    before: Annotated[
        str, typer.Argument(metavar="A", help="A job, JOB:model/target/runtime/recipe, or a report.json.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="The later one, named alike.")],
    across_hosts: Annotated[bool, typer.Option("--across-hosts", help="Compare times of different hosts.")] = False,
    json: Json = False,
) -> None:
    """Tell what regressed, what improved, and what can't be told, from independent runs and the host's noise.

    Exit code 1 when something regressed.
    """
    from farm.cli.output import print_json, print_table, say
    from farm.domain.statistics.change import Change
    from farm.report.comparison import compare_results

    found = compare_results(_results(before), _results(after), across_hosts=across_hosts)
    if json:
        print_json([one.as_json() for one in found])
    else:
        columns = ("result", "change", "ratio", "95 %", "noise", "by")
        print_table(columns, [_line(one) for one in found], empty="Nothing to compare.")
        for one in found:
            if one.why:
                say(f"{one.after.folder}: {one.why}")
    if any(one.change is Change.REGRESSED for one in found):
        raise typer.Exit(EXIT_REGRESSED)


def recompute(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="A report.json, of a job or of one result.")],
    json: Json = False,
) -> None:
    """Compute every statistic of a report again from its raw samples, by code of its own, and print what differs.

    Exit code 1 when something differs by more than rounding, 2 when there is nothing to compute from.
    """
    from farm.cli.output import print_json, print_table, say
    from farm.domain.statistics.recomputation import recompute as computed

    told = read_report(report)
    _refuse_without_samples(report, told)
    differences, count = computed(told)
    if json:
        print_json({"computed": count, "differences": [asdict(one) for one in differences]})
    else:
        lines = [(one.result, one.field, str(one.stored), str(one.computed)) for one in differences]
        columns = ("result", "statistic", "in the report", "from its samples")
        print_table(columns, lines, empty=f"{count} statistics computed again from their samples: all as reported.")
        if differences:
            say(f"{len(differences)} of {count} statistics are not what their samples give.")
    if differences:
        raise typer.Exit(EXIT_DIFFERENT)


def _refuse_without_samples(path: Path, report: dict[str, Any]) -> None:
    """See that there is something to compute from, and that every success holds its raw samples.

    Raises:
        BadData: no result was measured, or one lacks its samples.
    """
    from farm.domain.errors import BadData

    results = {
        "/".join(one[part] for part in ("model", "target", "target_runtime", "recipe")): one
        for one in report["results"]
    }
    lacking = [name for name, one in results.items() if one["state"] == "succeeded" or one.get("execution_summary")]
    lacking = [name for name in lacking if not _has_samples(results[name])]
    if lacking:
        raise BadData(
            f"{str(path)!r} lacks execution_summary.all_inference_times of {', '.join(lacking)}: nothing shows that "
            "its statistics are right.",
            remedy="Take the report.json as the farm wrote it: farm download JOB.",
        )
    if not any(one.get("execution_summary") for one in report["results"]):
        states = ", ".join(f"{name}: {one['state']}" for name, one in results.items()) or "it has no result"
        raise BadData(f"{str(path)!r} holds no measurement to compute again ({states}).")


def _has_samples(result: dict[str, Any]) -> bool:
    runs = (result.get("execution_summary") or {}).get("all_inference_times") or []
    return bool(runs) and all(runs)


def _results(named: str) -> list[Result]:
    """Read the results that an argument names: of a file, or of a job.

    Raises:
        NotFound: the job has no such result; those it has are named.
    """
    from farm.domain.errors import NotFound
    from farm.report.model import Report

    if Path(named).is_file():
        return Report.model_validate(read_report(Path(named))).results
    job, _, folder = named.partition(":")
    results = _report_of(job).results
    if not folder:
        return results
    chosen = [result for result in results if result.folder == folder]
    if not chosen:
        known = ", ".join(result.folder for result in results) or "none"
        raise NotFound(f"Job {job} has no result {folder!r}; it has {known}.")
    return chosen


def read_report(path: Path) -> dict[str, Any]:
    """Read a job's report; the report.json that is published beside one result counts as a report of that one.

    Raises:
        BadRequest: the file is no report.
    """
    import json

    from farm.domain.errors import BadRequest
    from farm.report.schema import violations

    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BadRequest(f"{str(path)!r} can't be read as JSON: {exc}.") from exc
    if isinstance(told, dict) and "results" not in told and "target_runtime" in told:
        told = {"schema_version": "1", "job": path.stem, "state": told.get("state"), "results": [told]}
    problems = violations(told) if isinstance(told, dict) else ["it is no object"]
    if problems:
        shown = "; ".join(problems[:3])
        raise BadRequest(f"{str(path)!r} is no report of this farm: {shown}.", remedy="Give a report.json.")
    report: dict[str, Any] = told
    return report


def _report_of(job: str) -> Report:
    from farm.client import Client

    with Client() as client:
        return client.job(job).report()


def _line(one: Compared) -> tuple[str, ...]:
    told = one.comparison
    name = one.after.folder if one.before.folder == one.after.folder else f"{one.before.folder} -> {one.after.folder}"
    if told is None:
        return name, one.change.value, "–", "–", "–", "–"
    low, high = told.interval
    by = f"{told.basis.value} time{' / reference' if told.relative_to_reference else ''}"
    return name, one.change.value, f"{told.ratio:.3f}", f"{low:.3f} … {high:.3f}", f"{told.floor_ratio:.1%}", by


_EXAMPLES = {
    "compare": (
        "farm compare JOB-A JOB-B",
        "farm compare JOB:digits/x86-64-v3/onnxruntime/float32 JOB:digits/x86-64-v3/onnxruntime/int8-static",
        "farm compare before/report.json after/report.json --json",
    ),
    "recompute": ("farm recompute report.json", "farm recompute report.json --json"),
}
