"""What the wire refuses before anything is stored."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farm.domain.errors import Actor, UnsafeModel
from farm.wire.base import ArtifactEntry, FailureEntry, FileEntry
from farm.wire.jobs import JobRequest, ModelCreate

SHA256 = "0" * 64


@pytest.mark.parametrize("name", ["../../x.onnx", "/etc/x", "a//b", "./a", "a\\b", "bold\x1b[31m.onnx", "x" * 256])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(UnsafeModel) as told:
        FileEntry(name=name, sha256=SHA256, size_bytes=1)

    assert repr(name) in told.value.message


def test_a_plain_name_is_taken() -> None:
    assert FileEntry(name="variables/ümlaut <b>.index", sha256=SHA256, size_bytes=1).name.startswith("variables")


def file(name: str) -> dict[str, Any]:
    return {"name": name, "sha256": SHA256, "size_bytes": 1}


def job(**changes: Any) -> dict[str, Any]:
    return {"models": [{"artifact": {"files": [file("m.onnx")]}, "file_name": "m.onnx"}], "targets": ["x"], **changes}


def test_several_files_are_a_tree() -> None:
    with pytest.raises(ValidationError, match="is_tree"):
        ArtifactEntry.model_validate({"files": [file("a"), file("b")]})

    assert ArtifactEntry.model_validate({"files": [file("a"), file("b")], "is_tree": True}).is_tree


def test_a_name_comes_once_in_a_tree() -> None:
    with pytest.raises(UnsafeModel, match="twice"):
        ArtifactEntry.model_validate({"files": [file("a"), file("a")], "is_tree": True})


@pytest.mark.parametrize("name", ["manifest.json", "report.json", "report.html"])
def test_the_names_of_published_documents_are_kept_free(name: str) -> None:
    artifact = {"files": [file("m.pb"), file(name)], "is_tree": True}

    with pytest.raises(ValidationError, match=f"its own {name}"):
        ModelCreate.model_validate({"artifact": artifact, "file_name": "m"})
    with pytest.raises(ValidationError, match=f"its own {name}"):
        JobRequest.model_validate(job(models=[{"artifact": artifact, "file_name": "m"}]))


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
@pytest.mark.parametrize("place", ["value", "key", "list"])
def test_text_that_no_ledger_holds_is_refused_wherever_it_stands(text: str, place: str) -> None:
    held: dict[str, Any] = {"value": {"k": text}, "key": {text: 1}, "list": {"k": [1, {"k": text}]}}

    with pytest.raises(ValidationError, match="surrogate"):
        FailureEntry(code="x", message="x", who_must_act=Actor.US, retryable=False, evidence=held[place])
    with pytest.raises(ValidationError, match="surrogate"):
        JobRequest.model_validate(job(name=text))


@pytest.mark.parametrize(
    "changes", [{"max_measurement_age_s": 1e12}, {"labels": {"k": "v" * 201}}, {"labels": {"k" * 201: "v"}}]
)
def test_values_have_bounds(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobRequest.model_validate(job(**changes))

    assert JobRequest.model_validate(job(max_measurement_age_s=365 * 86400, labels={"k": "v" * 200}))
