"""Errors to messages and exit codes. No traceback reaches the terminal: the details go to a file.

Exit codes: 0 ok · 1 a result is failed, or no winner · 2 usage or refused · 3 the farm can't be reached or is broken ·
4 cancelled · 130 detached by Ctrl-C (the job goes on).
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from farm.domain.errors import (
    ConfigurationError,
    FarmError,
    JobCancelled,
    NoLiveHost,
    ProfileMismatch,
    RequestError,
    ToolchainError,
)
from farm.report.text import plain

OK, FAILED, REFUSED, UNREACHABLE, CANCELLED, DETACHED = 0, 1, 2, 3, 4, 130
_CODES: tuple[tuple[type[FarmError], int], ...] = (
    (RequestError, REFUSED),
    (NoLiveHost, REFUSED),
    (ProfileMismatch, REFUSED),
    (JobCancelled, CANCELLED),
    (ToolchainError, FAILED),
    (FarmError, UNREACHABLE),
)


def exit_code(error: FarmError) -> int:
    return next(code for kind, code in _CODES if isinstance(error, kind))


def report_exit_code(report: Mapping[str, Any]) -> int:
    """Tell how a job stands: by its winner where the farm was to choose one, else by its results."""
    state, answer = report["state"], report.get("answer")
    if state in ("refused", "cancelled"):
        return REFUSED if state == "refused" else CANCELLED
    answers = [answer] if answer is not None else report.get("answers") or []
    if answers:
        return OK if all(one.get("winner") for one in answers) else FAILED
    bad = state == "failed" or any(result["verdict"] == "failed" for result in report["results"])
    return FAILED if bad else OK


def reasons_of(error: FarmError) -> list[Mapping[str, Any]]:
    """List the reasons that an error brings, or itself as the only one, in the report's fields."""
    reasons = error.evidence.get("reasons")
    if isinstance(reasons, Sequence) and len(reasons) > 1 and all(isinstance(reason, Mapping) for reason in reasons):
        return list(reasons)
    actor = error.who_must_act.value
    return [{"code": error.code, "message": error.message, "who_must_act": actor, "remedy": error.remedy}]


def show(error: FarmError) -> None:
    """Print what went wrong, who must act and the way out."""
    reasons = reasons_of(error)
    if len(reasons) > 1:
        show_reasons(reasons)
        return
    _show_one(error.code, error.message, remedy=error.remedy, actor=error.who_must_act.value)


def show_reasons(reasons: Sequence[Mapping[str, Any]]) -> None:
    """Print every reason of a refusal."""
    for reason in reasons:
        message = str(reason.get("message") or reason.get("detail"))
        about = f"{reason['model']}: " if reason.get("model") else ""
        code, actor = str(reason.get("code")), reason.get("who_must_act")
        _show_one(code, about + message, remedy=reason.get("remedy"), actor=actor)


def _show_one(code: str, message: str, *, remedy: object, actor: object) -> None:
    from rich.text import Text

    from farm.cli.output import stderr

    console = stderr()
    lines = plain(message, keep="\n").splitlines() or [""]
    shown = lines[0] if len(lines) == 1 else "\n  ".join(["", *lines])
    console.print(Text.assemble(("Error", "bold red"), f" [{plain(code)}] ", shown))
    if remedy:
        console.print(Text.assemble(("  What to do: ", "bold"), plain(str(remedy), keep="\n")))
    console.print(Text(f"  Who must act: {plain(str(actor))}", style="dim"))


def on_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> NoReturn:
    """Write the details of a bug to a file and say where; stands in for the interpreter's own traceback."""
    from farm.settings import BadSettings

    if isinstance(error, BadSettings):
        show(ConfigurationError(str(error), remedy="Mend the variable, or the line of the file FARM_CONFIG names."))
        raise SystemExit(UNREACHABLE)
    path = _write_details("".join(traceback.format_exception(kind, error, trace)))
    said = plain(str(error).splitlines()[0] if str(error) else kind.__name__, limit=200)
    sys.stderr.write(
        f"Error [farm-bug] This is a defect of farm, not of what you gave it: {said}\n"
        f"  What to do: please report it with the details in {path}\n  Who must act: us\n"
    )
    sys.stderr.flush()
    raise SystemExit(UNREACHABLE)


def _write_details(details: str) -> Path:
    with tempfile.NamedTemporaryFile("w", prefix="farm-error-", suffix=".log", delete=False, encoding="utf-8") as file:
        file.write(details)
    return Path(file.name)
