"""farm compat: tell whether an application written for one artifact runs with another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.output import Json

if TYPE_CHECKING:
    from farm.domain.compat import Body, Difference

EXIT_INCOMPATIBLE = 1
DOCUMENTS = ("report.json", "manifest.json")
EXAMPLES = """
Examples:

  farm compat JOB:digits/x86-64-v3/onnxruntime/float32 JOB:digits/x86-64-v3/onnxruntime/int8-static

  farm compat models/digits/x86-64-v3/litert/float32 models/digits/x86-64-v3/litert/int8-full-integer

  farm compat before/report.json new.onnx --json

A and B are results of a job, what `farm download` fetched of one (its folder, report.json or manifest.json), or model
files; those are read in the farm's sandbox.
"""
Named = "A result (JOB:model/target/runtime/recipe), a folder or document of one, or a model file."


def add_to(app: typer.Typer, panel: str) -> None:
    app.command("compat", rich_help_panel=panel, epilog=EXAMPLES)(compat)


def compat(
    a: Annotated[str, typer.Argument(metavar="A", help=Named)],
    b: Annotated[str, typer.Argument(metavar="B", help="What the application would run instead, named alike.")],
    json: Json = False,
) -> None:
    """Tell whether an application written for artifact A runs with B, and what it would have to do.

    Names, order, dtypes, shapes, layout, quantization, runtime, preprocessing, class names and nearness to the source
    are compared. Exit code 1 when something has to be changed.
    """
    from farm.cli.output import print_json
    from farm.domain.compat import compare, is_compatible

    found = compare(body_of(a), body_of(b))
    fits = is_compatible(found)
    if json:
        print_json({"compatible": fits, "differences": [asdict(one) for one in found]})
    else:
        _show(found, fits=fits)
    if not fits:
        raise typer.Exit(EXIT_INCOMPATIBLE)


def _show(found: list[Difference], *, fits: bool) -> None:
    from farm.cli.output import print_table, say

    lines = [("breaks" if one.breaks else "note", one.subject, one.message, one.remedy or "–") for one in found]
    print_table(("", "what", "A became B", "adaptation"), lines, empty="They are called alike.")
    breaking = sum(one.breaks for one in found)
    changes = f"{breaking} change{'s' if breaking > 1 else ''}"
    say("An application written for A runs with B." if fits else f"An application written for A needs {changes}.")


def body_of(named: str) -> Body:
    """Find what an argument names.

    Raises:
        NotFound: there is no such result.
        BadRequest: the document is none of this farm, or it tells of no artifact.
    """
    path = Path(named)
    if path.is_dir():
        documents = [path / name for name in DOCUMENTS if (path / name).is_file()]
        if documents:
            return _of_document(documents[0])
    if path.suffix == ".json" and path.is_file():
        return _of_document(path)
    return _of_model(path) if path.exists() else _of_job(named)


def _of_document(path: Path) -> Body:
    """Read a report of one result, or a manifest."""
    import json

    from farm.cli.measurements import read_report
    from farm.domain.errors import BadRequest

    if path.name != "manifest.json":
        return _only(read_report(path)["results"], str(path))
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BadRequest(f"{str(path)!r} can't be read as JSON: {exc}.") from exc
    if not isinstance(told, dict) or not isinstance(told.get("inputs"), list):
        raise BadRequest(
            f"{str(path)!r} does not say what the artifact is called with.", remedy="Give its report.json."
        )
    artifact = {name: told.get(name) for name in ("inputs", "outputs", "format")}
    return {**told, "artifact": artifact}


def _of_job(named: str) -> Body:
    from farm.client import Client
    from farm.domain.errors import NotFound

    job, _, folder = named.partition(":")
    with Client() as client:
        results = client.job(job).raw_report()["results"]
    names = ("model", "target", "target_runtime", "recipe")
    by_folder = {"/".join(result[name] for name in names): result for result in results}
    if folder and folder not in by_folder:
        raise NotFound(f"Job {job} has no result {folder!r}; it has {', '.join(by_folder) or 'none'}.")
    return _only([by_folder[folder]] if folder else results, named)


def _of_model(path: Path) -> Body:
    """Have a file or folder inspected; what only a report tells stays unknown."""
    from farm.cli.progress import transfer_bars
    from farm.client import Client
    from farm.domain.errors import BadRequest

    with Client() as client, transfer_bars("Uploading") as on_bytes:
        view = client.inspect(path, on_bytes=on_bytes)
    if view.facts is None:
        raise BadRequest(f"{str(path)!r} was not inspected.")
    return {"artifact": {name: view.facts[name] for name in ("inputs", "outputs", "format")}}


def _only(results: list[dict[str, Any]], named: str) -> Body:
    """Take the one result that is meant.

    Raises:
        BadRequest: there are several, or it has no artifact.
    """
    from farm.domain.errors import BadRequest

    whole = [result for result in results if result.get("artifact")]
    if len(whole) != 1:
        folders = ", ".join(f"{r['model']}/{r['target']}/{r['target_runtime']}/{r['recipe']}" for r in whole) or "none"
        raise BadRequest(
            f"{named!r} names {len(whole)} results with an artifact: {folders}.",
            remedy="Name one: JOB:" + folders[:200],
        )
    return whole[0]
