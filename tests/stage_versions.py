"""The table of which code each transform's version stands for: `python -m tests.stage_versions` writes it anew.

A step's key holds its stage's version and not its code, so a change of the code without one of the version would be
answered from what the old code made. What counts as a stage's code is its module, those of its own folder that it
stands on, and those of workers/stages that its docstring sends the reader to, without docstrings, comments and layout.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from farm.domain.stage import TRANSFORMS, StageSpec
from workers import stages
from workers.stages import load_specs

TABLE = Path(__file__).with_suffix(".json")
COMMAND = ".venv/bin/python -m tests.stage_versions"
STAGES = Path(str(stages.__file__)).parent
Table = dict[str, dict[str, str]]


def transforms() -> list[StageSpec]:
    return [spec for spec in load_specs().values() if spec.kind in TRANSFORMS]


def code_of(spec: StageSpec) -> str:
    """Return the digest of a stage's code."""
    run = spec.run.func if isinstance(spec.run, functools.partial) else spec.run
    module = inspect.getmodule(run)
    assert module is not None
    digests = [_digest(file) for file in sorted(_files(module))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def current() -> Table:
    return {spec.name: {"version": spec.version, "code": code_of(spec)} for spec in transforms()}


def written() -> Table:
    table: Table = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def wrong(table: Table, now: Table) -> list[str]:
    """Say what the table does not know, what it knows in vain, and what changed without its version."""
    said = []
    for name in sorted(table.keys() | now.keys()):
        if name not in table:
            said.append(f"{name} is not in {TABLE.name}.")
        elif name not in now:
            said.append(f"{TABLE.name} knows {name}, and there is no such stage.")
        elif table[name]["version"] != now[name]["version"]:
            said.append(f"{name} is at version {now[name]['version']}; {TABLE.name} has {table[name]['version']}.")
        elif table[name]["code"] != now[name]["code"]:
            said.append(
                f"The code of {name} changed and its version, {now[name]['version']}, did not: raise it, unless what "
                "the stage makes, refuses and tells stays the same."
            )
    return said


def _files(module: ModuleType) -> set[Path]:
    found, pending = set[Path](), [Path(inspect.getfile(module))]
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending += _neighbours(file)
    return found | {STAGES / f"{name}.py" for name in re.findall(r"workers/stages/(\w+)\.py", module.__doc__ or "")}


def _neighbours(file: Path) -> Iterator[Path]:
    """Yield the modules of its own folder that a module imports from."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        imported = STAGES.parents[1].joinpath(*(getattr(node, "module", None) or "").split(".")).with_suffix(".py")
        if isinstance(node, ast.ImportFrom) and imported.parent == file.parent and imported.exists():
            yield imported


@cache
def _digest(file: Path) -> str:
    text = _shape(without_docstrings(ast.parse(file.read_text(encoding="utf-8"))))
    return hashlib.sha256(text.encode()).hexdigest()


def without_docstrings(tree: ast.AST) -> ast.AST:
    """Take away every string that stands alone as a statement."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [one for one in body if not _is_string(one)]
    return tree


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _shape(value: object) -> str:
    """Write a tree as text, but for empty fields, which other versions of Python have more of."""
    if isinstance(value, list):
        return f"[{','.join(map(_shape, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = [(name, found) for name, found in ast.iter_fields(value) if found is not None and found != []]
    return f"{type(value).__name__}({','.join(f'{name}={_shape(found)}' for name, found in fields)})"


if __name__ == "__main__":
    TABLE.write_text(json.dumps(current(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{TABLE.name}: {len(current())} stages\n")
