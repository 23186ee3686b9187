"""`farm profiles`: what is wrong is named file by file, editors get a schema, the page is what the profiles say."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from farm.cli.main import run
from hardware_profiles.loader import FOLDER, json_schema, lint, load_profiles
from hardware_profiles.page import page

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"
BOARD = """
name: {name}
title: A board of ours
extends: {parent}
identity: {{device_tree_compatible: ["ours,board"]}}
sources: ["its schematics, page 3"]
"""


def write(folder: Path, name: str, parent: str, more: str = "") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(BOARD.format(name=name, parent=parent) + more)
    return path


def test_the_shipped_profiles_hold_together() -> None:
    assert lint() == []


def test_a_file_of_ones_own_may_extend_what_is_shipped(tmp_path: Path) -> None:
    assert lint([write(tmp_path, "our-board", "raspberry-pi-4")]) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("memory_min_byte: 5", "our-board.yaml: memory_min_byte: unknown key; did you mean memory_min_bytes?"),
        ("cpu: {features_required: [avx2]}", "aarch64 has no feature 'avx2'"),
        ("cpu: {features_required: [asimdpd]}", "has no feature 'asimdpd'; did you mean asimd"),
        ("measurement: {threads: [0]}", "measurement.threads.0"),
        ("numeric: {sve: true}", "numeric.sve: is true, which cpu.features_required contradicts"),
        ("title: again", "key 'title' stands twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: str, told: str) -> None:
    problem, *_ = lint([write(tmp_path, "our-board", "raspberry-pi-4", more)])

    assert problem.startswith("our-board.yaml: ")
    assert told in problem


def test_a_circle_is_told_with_all_its_members(tmp_path: Path) -> None:
    problems = lint([write(tmp_path, "one", "two"), write(tmp_path, "two", "one")])

    assert problems == [
        "one.yaml: extends: inheritance goes in a circle: one -> two -> one",
        "two.yaml: extends: inheritance goes in a circle: two -> one -> two",
    ]


def test_a_file_that_is_not_there_and_a_parent_that_is_not_are_told(tmp_path: Path) -> None:
    problems = lint([tmp_path / "gone.yaml", write(tmp_path, "our-board", "raspbery-pi-4")])

    assert problems[0] == f"{tmp_path / 'gone.yaml'}: can't be read: No such file or directory"
    assert "did you mean raspberry-pi-4" in problems[1]


def test_the_command_exits_with_2_and_one_problem_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write(tmp_path, "our-board", "raspberry-pi-4", "colour: red\nweight: 40")

    assert run(["profiles", "lint", str(bad)]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert run(["profiles", "lint"]) == 0


def test_every_shipped_file_fits_the_schema_and_a_wrong_one_does_not() -> None:
    check = jsonschema.Draft202012Validator(json_schema())
    files = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))]

    assert [list(check.iter_errors(file)) for file in files] == [[] for _ in files]
    assert not check.is_valid({**files[0], "colour": "red"})
    assert not check.is_valid({**files[0], "cpu": {"features_required": ["asimdpd"]}})
    json.dumps(json_schema())


def test_the_page_is_what_the_profiles_say() -> None:
    assert PAGE.read_text() == page(load_profiles()), "run `farm profiles docs > docs/profiles.md`"


def test_ten_profiles_are_backed_by_a_tree_and_the_page_calls_the_others_unverified() -> None:
    profiles = load_profiles()
    backed = [p.name for p in profiles.values() if p.verified]

    assert len(backed) >= 10
    overview = PAGE.read_text().split("## ")[0]
    assert overview.count("| backed |") == len(backed)
    assert overview.count("| unverified |") == len(profiles) - len(backed)
