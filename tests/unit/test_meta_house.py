"""The house's measures: short files, short functions; documents that name commands which exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from farm.cli.main import app

REPOSITORY = Path(__file__).parents[2]
CODE = ("farm", "workers", "hardware_profiles")
LONGEST_FILE = 400
LONGEST_FUNCTION = 50
_CALL = re.compile(r"(?<![\w./-])(?<!from )farm (?P<word>[a-z][a-z-]*)")
_IN_TICKS = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_TARGET = re.compile(r"(?<![\w-])make (?P<word>[a-z][a-z-]*)")


@cache
def files() -> tuple[Path, ...]:
    return tuple(path for top in CODE for path in sorted((REPOSITORY / top).rglob("*.py")))


@cache
def functions() -> dict[str, int]:
    """Measure every function but migrations, which are lists: lines to its end, decorators and docstring aside."""
    paths = [path for path in files() if "migrations/versions" not in str(path)]
    return {f"{path.relative_to(REPOSITORY)}:{name}": lines for path in paths for name, lines in _functions(path)}


def test_no_file_is_too_long() -> None:
    lines = {str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines()) for path in files()}

    assert {path: count for path, count in lines.items() if count > LONGEST_FILE} == {}


def test_no_function_is_too_long() -> None:
    assert {name: lines for name, lines in functions().items() if lines > LONGEST_FUNCTION} == {}


def test_functions_are_short_as_a_rule() -> None:
    lengths = list(functions().values())

    assert median(lengths) <= 7
    assert quantiles(lengths, n=10)[-1] <= 25


def test_commands_in_documents_exist() -> None:
    known = commands()
    unknown = [
        f"{path.name}: farm {call['word']}"
        for path in documents()
        for text in _IN_TICKS.findall(path.read_text())
        for call in _CALL.finditer(text)
        if call["word"] not in known
    ]

    assert unknown == []


def test_make_targets_in_documents_and_messages_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    texts = [*documents(), *files()]
    unknown = [
        f"{path.relative_to(REPOSITORY)}: make {call['word']}"
        for path in texts
        for text in _IN_TICKS.findall(path.read_text())
        for call in _TARGET.finditer(text)
        if call["word"] not in known
    ]

    assert unknown == []


def test_commands_in_messages_exist() -> None:
    known = commands()
    unknown = [
        f"{path.relative_to(REPOSITORY)}: farm {call['word']}"
        for path in files()
        for text in re.findall(r"`[^`\n]+`", path.read_text())
        for call in _CALL.finditer(text)
        if call["word"] not in known
    ]

    assert unknown == []


def test_no_document_or_source_names_a_place_on_one_machine() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {place}"
        for path in (*documents(), *files(), REPOSITORY / "Makefile", REPOSITORY / ".ci" / "run")
        for place in (f"{REPOSITORY}/", f"{Path.home()}/")
        if place in path.read_text()
    ]

    assert found == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_for_later(word: str) -> None:
    assert [str(path) for path in files() if re.search(rf"\b{word}\b", path.read_text())] == []


def test_only_the_runner_and_controls_guard_catch_everything() -> None:
    """The runner has two halves: one in the worker, one in the sandboxed child, which passes on what a stage raised."""
    catching = [
        str(path.relative_to(REPOSITORY))
        for path in files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises_again(node)
    ]

    assert catching == ["farm/control/guard.py", "workers/runner.py", "workers/stages/harness.py"]


def documents() -> list[Path]:
    return [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]


def commands() -> set[str]:
    """List the words that may follow `farm`, of the command line itself."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return set(group.commands)


def _is_broad(node: ast.ExceptHandler) -> bool:
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or getattr(kind, "id", "") in ("Exception", "BaseException") for kind in kinds)


def _raises_again(node: ast.ExceptHandler) -> bool:
    return isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            documented = (node.body[0].end_lineno or 0) - node.body[0].lineno + 1 if body is not node.body else 0
            yield f"{node.name}:{node.lineno}", (node.end_lineno or 0) - node.lineno + 1 - documented
