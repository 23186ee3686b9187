"""A transform's version moves with its code, since keys hold the version alone."""

from __future__ import annotations

import ast

import pytest

from tests import stage_versions
from tests.stage_versions import COMMAND, Table, current, without_docstrings, written, wrong

NOW: Table = {"a-to-b": {"version": "2", "code": "new"}, "b-to-c": {"version": "1", "code": "same"}}


def test_the_table_knows_every_transform_by_its_version_and_code() -> None:
    said = wrong(written(), current())

    assert not said, "\n".join([*said, f"Then write the table anew: {COMMAND}"])


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ({"version": "2", "code": "old"}, "changed and its version, 2, did not"),
        ({"version": "1", "code": "old"}, "is at version 2; stage_versions.json has 1"),
        (None, "is not in"),
    ],
)
def test_what_moved_alone_is_told(before: dict[str, str] | None, words: str) -> None:
    table = {"b-to-c": NOW["b-to-c"]} | ({"a-to-b": before} if before else {})

    (said,) = wrong(table, NOW)

    assert said.startswith(("a-to-b ", "The code of a-to-b "))
    assert words in said


def test_a_stage_that_went_is_told() -> None:
    (said,) = wrong(NOW | {"gone-to-b": NOW["a-to-b"]}, NOW)

    assert "knows gone-to-b" in said


def shape(code: str) -> str:
    return stage_versions._shape(without_docstrings(ast.parse(code)))


def test_words_and_layout_are_no_code() -> None:
    code = shape('"""One."""\n\ndef run(a):\n    """Two."""\n    return a + 1  # why\n\nX = 1\n"""Three."""\n')

    assert code == shape("def run(a): return (a\n + 1)\nX = 1\n")
    assert code != shape("def run(a): return a + 2\nX = 1\n")


def test_a_shared_module_is_code_of_every_stage_that_sends_its_reader_there() -> None:
    specs = {spec.name: spec for spec in stage_versions.transforms()}
    module = __import__("workers.stages.export.torch_exported_program_to_tflite", fromlist=["run"])

    assert "litert_torch_call" in {file.stem for file in stage_versions._files(module)}
    assert stage_versions.code_of(specs["onnx-to-tflite"]) != stage_versions.code_of(specs["onnx-to-tflite-via-torch"])
