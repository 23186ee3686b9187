"""The command that tells the story of failed and poor results."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from farm.cli.output import Json

if TYPE_CHECKING:
    from farm.report.explain import Story

WIDEST = 100


def add_to(app: typer.Typer, panel: str) -> None:
    examples = "Examples:\n\n  farm explain JOB\n\n  farm explain JOB litert/int8-static\n\n  farm explain JOB --json"
    app.command(rich_help_panel=panel, epilog=examples)(explain)


def explain(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `farm submit` printed it.")],
    result: Annotated[
        str | None, typer.Argument(metavar="RESULT", help="Only results whose model/target/runtime/recipe holds this.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell why results failed or are poor: which stage and operator, what it means, what to do next."""
    from dataclasses import asdict

    from farm.cli.output import print_json, say
    from farm.client import Client

    with Client() as client:
        one = client.job(job)
        folders = [each.folder for each in one.results]
        stories = one.explain()
    _known(result, folders)
    chosen = [story for story in stories if result is None or result in story.result]
    if json:
        print_json([asdict(story) for story in chosen])
    elif chosen:
        typer.echo("\n\n".join(_shown(story, _width()) for story in chosen))
    else:
        so_far = "" if one.ended else " so far"
        say(f"Job {job} ({one.state}): none of its {len(folders)} results is failed or poor{so_far}.")


def _known(result: str | None, folders: list[str]) -> None:
    from farm.domain.catalogue import near_misses
    from farm.domain.errors import UnknownName

    if result is not None and folders and not any(result in folder for folder in folders):
        raise UnknownName(f"The job has no result {result!r}; {near_misses(result, folders)}")


def _shown(story: Story, width: int) -> str:
    """Lay a story out as paragraphs of at most `width` columns; commands and log lines stay whole."""
    parts = [f"{story.result}: {story.verdict}"]
    parts += [_wrapped(sentence, width) for sentence in story.told]
    parts += [f"    {line}" for line in story.telling]
    who = f" ({story.who_must_act} must act)" if story.who_must_act else ""
    parts.append(_wrapped(f"Next: {story.action}{who}", width))
    parts.append(f"  $ {story.command}")
    if story.entry:
        parts.append(_wrapped(f"Known as {story.entry}; source: {story.source}.", width))
    return "\n".join(parts)


def _wrapped(sentence: str, width: int) -> str:
    return textwrap.fill(
        sentence, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def _width() -> int:
    import shutil

    return min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
