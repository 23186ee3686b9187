"""Imports only go down the floors of the house; rooms of one floor leave each other alone but for listed pairs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
OURS = ("farm", "workers", "hardware_profiles")
FLOORS = (
    ("farm", "farm.web", "farm.cli", "farm.local"),
    ("farm.api", "farm.control", "farm.client", "workers"),
    ("farm.report", "farm.intake", "farm.publication"),
    ("farm.ledger", "farm.store", "farm.transfer", "farm.queue", "farm.wire", "farm.catalog"),
    ("workers.stages", "workers.runtimes", "workers.edgetpu", "workers.environments"),
    ("farm.domain",),
    ("hardware_profiles", "farm.settings", "farm.knowledge"),
)
"""Faces; what acts; what tells; what is remembered and said; what can be done; what is decided; facts.

The room `workers` is app, tasks, runner, sandbox, host and their like; `farm` is the package's own front door.
"""
FRONT_DOOR = ("farm", "farm.__version__")
"""What every room may ask the package itself: where it is, and its version."""
NEIGHBOURS = {
    ("farm.cli", "farm.local"): "`farm up` and `farm down` are the local stack's buttons",
    ("farm.cli", "farm.web"): "`farm api` serves the pages beside the routes",
    ("farm.ledger", "farm.wire"): "a request is stored in the words it came in",
    ("farm.publication", "farm.report"): "a published result brings its own report page",
    ("farm.transfer", "farm.wire"): "tickets and file entries are the wire's",
    ("workers.runtimes", "workers.edgetpu"): "running compiled models asks for the device first",
    ("workers.stages", "workers.edgetpu"): "inspecting and compiling ask what the Edge TPU takes",
    ("workers.stages", "workers.runtimes"): "comparing, evaluating and measuring are written over the runtime protocol",
}
"""Pairs of one floor that may meet, and why."""
CLOSED = {
    ("workers", "farm.ledger"): "hosts have no ledger",
    ("workers", "farm.store"): "hosts have no bucket credentials",
    ("workers", "farm.catalog"): "the catalogue is the planner's",
    ("workers.stages", "farm.settings"): "a stage is told everything it may know",
    ("workers.runtimes", "farm.settings"): "a runtime is told everything it may know",
    ("farm.domain", "farm.settings"): "the domain imports nothing but itself",
    ("farm.domain", "hardware_profiles"): "the domain imports nothing but itself",
    ("farm.domain", "farm.knowledge"): "the domain imports nothing but itself",
}
"""Ways down that stay shut all the same, and why."""
CATALOG_ONLY = {
    ("workers", "workers.stages"): "the worker runs stages",
    ("workers", "workers.runtimes"): "the worker knows what its runtimes accept",
    ("farm.catalog", "workers.stages"): "the catalogue reads the specs",
    ("farm.catalog", "workers.runtimes"): "the catalogue reads what runtimes accept",
    ("workers.stages", "workers.runtimes"): "as above",
}
"""The only ways into stages and runtimes."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """An import of one of our rooms by another."""

    module: str
    imported: str

    @property
    def rooms(self) -> tuple[str, str]:
        return room(self.module), room(self.imported)

    def __str__(self) -> str:
        return f"{self.module} imports {self.imported}"


def room(module: str) -> str:
    """Return the longest named room that a module is in."""
    named = [name for floor in FLOORS for name in floor if module == name or module.startswith(f"{name}.")]
    return max(named, key=len)


def floor(of: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if of in rooms)


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    paths = [path for top in OURS for path in sorted((REPOSITORY / top).rglob("*.py"))]
    names = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return tuple((name, ast.parse(path.read_text())) for name, path in zip(names, paths, strict=True))


@cache
def imports(tree: ast.Module) -> tuple[str, ...]:
    return tuple(_imports(tree))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports anywhere in it, functions and type-checking blocks included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def arrows() -> list[Arrow]:
    found = [Arrow(name, what) for name, tree in modules() for what in imports(tree)]
    return [
        arrow
        for arrow in found
        if arrow.imported.split(".")[0] in OURS and arrow.imported not in FRONT_DOOR and len(set(arrow.rooms)) == 2
    ]


def test_every_module_is_in_a_room_of_the_plan() -> None:
    unplanned = [name for name, _ in modules() if room(name) == "farm" and name != "farm"]

    assert unplanned == []


def test_imports_only_go_down() -> None:
    up = [str(arrow) for arrow in arrows() if floor(arrow.rooms[0]) > floor(arrow.rooms[1])]

    assert up == []


def test_rooms_of_one_floor_meet_only_where_listed() -> None:
    beside = [arrow for arrow in arrows() if floor(arrow.rooms[0]) == floor(arrow.rooms[1])]
    unlisted = [str(arrow) for arrow in beside if arrow.rooms not in NEIGHBOURS]
    unused = set(NEIGHBOURS) - {arrow.rooms for arrow in beside}

    assert unlisted == []
    assert unused == set()


def test_closed_ways_stay_closed() -> None:
    assert [f"{arrow}: {CLOSED[arrow.rooms]}" for arrow in arrows() if arrow.rooms in CLOSED] == []


def test_stages_and_runtimes_are_reached_only_where_listed() -> None:
    inward = [a for a in arrows() if a.rooms[1] in ("workers.stages", "workers.runtimes")]

    assert [str(arrow) for arrow in inward if arrow.rooms not in CATALOG_ONLY] == []


def test_only_the_sandbox_and_the_local_stack_start_processes() -> None:
    allowed = (
        "workers.sandbox",
        "workers.launcher.launch",
        "workers.edgetpu.compiler",
        "farm.local",
        "workers.environments",
    )
    starters = {"subprocess", "multiprocessing"}
    found = [
        f"{name} imports {what}"
        for name, tree in modules()
        for what in imports(tree)
        if what.split(".")[0] in starters and not name.startswith(allowed)
    ]

    assert found == []


@pytest.mark.parametrize("package", ["farm.domain", "farm.knowledge", "workers.stages", "workers.runtimes"])
def test_what_loads_in_every_environment_imports_the_standard_library_only(package: str) -> None:
    """At module level: inside functions a stage imports its toolchain."""
    foreign = [
        f"{name} imports {what}"
        for name, tree in modules()
        if name.startswith(package)
        for what in imports(ast.Module(_at_module_level(tree), []))
        if what.split(".")[0] not in (*sys.stdlib_module_names, *OURS)
    ]

    assert foreign == []


def test_the_domain_imports_nothing_but_itself() -> None:
    found = [
        f"{name} imports {what}"
        for name, tree in modules()
        if name.startswith("farm.domain")
        for what in imports(tree)
        if what.split(".")[0] not in sys.stdlib_module_names and not what.startswith("farm.domain.")
    ]

    assert found == []


def test_the_control_plane_starts_without_a_toolchain() -> None:
    code = (
        "import time; started = time.monotonic(); import sys, farm.cli.main, farm.api.app, farm.control.loop;"
        "print(f'{time.monotonic() - started:.3f}', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    seconds, *loaded = ran.stdout.split()
    print(f"importing the command line, the API and control took {seconds} s")

    frameworks = {"torch", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "openvino", "jax", "sklearn"}
    assert frameworks.isdisjoint(loaded)
    assert "numpy" not in loaded


def _at_module_level(tree: ast.Module) -> list[ast.stmt]:
    """Keep the statements that run at import, but for type-checking blocks."""
    kept: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            kept.append(node)
    return kept
