"""What all messages have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from farm.domain.artifact import Artifact, FileRef
from farm.domain.errors import Actor, Failure, FarmError
from farm.domain.names import check_names

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Message(BaseModel):
    """A frozen message that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, data: Any) -> Any:
        """Refuse text that PostgreSQL can't hold, wherever it stands."""
        if isinstance(data, Mapping):
            for name, value in data.items():
                if not _is_text(value):
                    raise ValueError(f"{name!a} holds a NUL character or half a surrogate pair")
        return data


class FileEntry(Message):
    """One file of an artifact: `name` is a relative POSIX path."""

    name: str = Field(min_length=1, max_length=512)
    sha256: Sha256
    size_bytes: int = Field(ge=0)

    @field_validator("name")
    @classmethod
    def _stays_below_its_folder(cls, name: str) -> str:
        check_names([name])
        return name

    @staticmethod
    def of(ref: FileRef) -> FileEntry:
        return FileEntry(name=ref.name, sha256=ref.sha256, size_bytes=ref.size_bytes)

    def ref(self) -> FileRef:
        return FileRef(self.name, self.sha256, self.size_bytes)


class ArtifactEntry(Message):
    """A file, or a tree of files."""

    files: list[FileEntry] = Field(min_length=1)
    is_tree: bool = False

    @model_validator(mode="after")
    def _is_one_artifact(self) -> Self:
        check_names([f.name for f in self.files])
        if len(self.files) > 1 and not self.is_tree:
            raise ValueError("several files are a tree: is_tree must be true")
        return self

    @staticmethod
    def of(artifact: Artifact) -> ArtifactEntry:
        return ArtifactEntry(files=[FileEntry.of(f) for f in artifact.files], is_tree=artifact.is_tree)

    def artifact(self) -> Artifact:
        return Artifact(tuple(sorted(f.ref() for f in self.files)), self.is_tree)


class FailureEntry(Message):
    """A failure on the wire."""

    code: str
    message: str
    who_must_act: Actor
    retryable: bool
    remedy: str | None = None
    evidence: dict[str, Any] = Field(default_factory=dict)

    @staticmethod
    def of(failure: Failure) -> FailureEntry:
        return FailureEntry(
            code=failure.code,
            message=failure.message,
            who_must_act=failure.who_must_act,
            retryable=failure.retryable,
            remedy=failure.remedy,
            evidence=dict(failure.evidence),
        )

    def error(self) -> FarmError:
        return FarmError.from_failure(
            Failure(self.code, self.message, self.who_must_act, self.retryable, self.remedy, self.evidence)
        )


def _is_text(value: Any) -> bool:
    """Tell whether every string within a JSON value is valid Unicode without NUL."""
    if isinstance(value, str):
        return _NO_TEXT.search(value) is None
    if isinstance(value, Mapping):
        return all(_is_text(key) and _is_text(item) for key, item in value.items())
    return not isinstance(value, Sequence) or isinstance(value, bytes) or all(map(_is_text, value))
