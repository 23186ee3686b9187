"""The report as a page that stands alone: no script, no request, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from statistics import median
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader
from markupsafe import Markup, escape

from farm.report import row, text
from farm.report.measured import all_sentences
from farm.report.model import Report, Result
from farm.report.spent import operator_bars, step_bars

TEMPLATES = PackageLoader("farm.report")


def environment(loader: BaseLoader) -> Environment:
    """Make a Jinja environment that escapes everything, and shows control characters as text."""
    made = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    made.filters |= _FILTERS
    made.globals |= {"row": row.row, "step_bars": step_bars, "operator_bars": operator_bars, "further": all_sentences}
    return made


def render_html(report: Report | Mapping[str, Any]) -> str:
    """Render the whole page."""
    return _environment().get_template("report.html").render(**context(report), css=css())


def render_fragment(report: Report | Mapping[str, Any]) -> str:
    """Render the table alone, with its style, for a notebook's cell."""
    return _environment().get_template("fragment.html").render(**context(report), css=css())


def context(report: Report | Mapping[str, Any]) -> dict[str, Any]:
    """Give templates what they show of a report."""
    typed = report if isinstance(report, Report) else Report.model_validate(report)
    return {"report": typed, "results": row.order(typed), "summary": row.summary(typed)}


@cache
def css() -> Markup:
    """Return the one style sheet, for a <style> element or the web's own file."""
    source, _, _ = TEMPLATES.get_source(Environment(autoescape=True), "farm.css")
    return Markup(source)  # noqa: S704


@cache
def _environment() -> Environment:
    return environment(TEMPLATES)


def _shown(value: Any) -> Any:
    return text.plain(value, keep="\n\t") if type(value) is str else value


def _prose(message: str) -> Markup:
    """Escape a message and set what stands between backticks as code."""
    parts = text.plain(message, keep="\n\t").split("`")
    if len(parts) % 2 == 0:
        return escape("`".join(parts))
    return Markup().join(escape(part) if i % 2 == 0 else _CODE.format(part) for i, part in enumerate(parts))


def _process_times(result: Result) -> list[str]:
    """Give each process's median, so that a reader sees how well they agree."""
    summary = result.execution_summary
    samples = [times for times in summary.all_inference_times if times] if summary else []
    return [text.milliseconds(median(times)) for times in samples]


def _interval(bounds: Sequence[float] | None) -> str:
    """Write a 95 % interval behind its value; nothing where it is not known."""
    return f" ({bounds[0]:.4f} … {bounds[1]:.4f})" if bounds and len(bounds) == 2 else ""


def _declared(preprocessing: Mapping[str, Any]) -> str:
    """Name what a declared preprocessing does, without what it leaves out."""
    done = {name: value for name, value in preprocessing.items() if value not in (None, [], "")}
    return text.plain(", ".join(f"{name} {value}" for name, value in done.items()))


_CODE = Markup("<code>{}</code>")
_FILTERS: dict[str, Callable[..., Any]] = {
    "prose": _prose,
    "size": text.size,
    "milliseconds": text.milliseconds,
    "seconds": text.seconds,
    "decibels": text.decibels,
    "ratio": text.ratio,
    "process_times": _process_times,
    "interval": _interval,
    "declared": _declared,
}
