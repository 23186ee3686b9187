"""From paths and arrays to uploaded files and messages that name them by digest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from farm.client.models import Arrays, Model, ModelFiles, collect, data_file, input_texts
from farm.client.tickets import Tickets
from farm.domain.artifact import FileRef
from farm.domain.errors import FarmError, RequestError
from farm.domain.preprocessing import declared, read_preprocessing
from farm.transfer import Link, hash_file, upload
from farm.wire.base import ArtifactEntry, FileEntry
from farm.wire.jobs import ModelCreate, ModelRequest

OnBytes = Callable[[str, int, int], None]
"""Called with a file's name, the bytes sent so far and its size."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    model: Model
    files: ModelFiles
    inputs: list[str]
    calibration: Path | None
    evaluation: Path | None
    preprocessing: dict[str, Any] | None


@dataclass(slots=True)
class Submission:
    """Uploads what models are made of; each file once, whatever the number of models that share it."""

    tickets: Tickets
    link: Link
    on_bytes: OnBytes | None = None
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    _sent: dict[Path, FileEntry] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def requests(self, models: Sequence[Model]) -> list[ModelRequest]:
        """Check every model's files before the first byte is sent, then upload.

        Raises:
            RequestError: files or inputs are at fault; the message holds every reason.
        """
        prepared, errors = [], []
        for number, model in enumerate(models):
            try:
                prepared.append(self._prepare(model, number))
            except RequestError as error:
                errors.append(error)
        if errors:
            raise together(errors)
        return [self._request(one) for one in prepared]

    def model(self, path: Model) -> ModelCreate:
        files = collect(path.path, path.builder)
        return ModelCreate(artifact=self._artifact(files), file_name=files.file_name)

    def _prepare(self, model: Model, number: int) -> _Prepared:
        folder = Path(self._folder.name) / str(number)
        folder.mkdir()
        return _Prepared(
            model,
            collect(model.path, model.builder),
            input_texts(model.inputs),
            _data(model.calibration, folder, model.preprocessing, what="calibration"),
            _data(model.evaluation, folder, model.preprocessing, what="evaluation"),
            declared(read_preprocessing(model.preprocessing)) if model.preprocessing else None,
        )

    def _request(self, prepared: _Prepared) -> ModelRequest:
        model = prepared.model
        return ModelRequest(
            artifact=self._artifact(prepared.files),
            name=model.name,
            file_name=prepared.files.file_name,
            inputs=prepared.inputs,
            calibration=self._file(prepared.calibration),
            evaluation=self._file(prepared.evaluation),
            metric=model.metric,
            preprocessing=prepared.preprocessing,
        )

    def _artifact(self, files: ModelFiles) -> ArtifactEntry:
        sent = [self._send(path, name) for name, path in files.files.items()]
        return ArtifactEntry(files=sent, is_tree=files.is_tree)

    def _file(self, path: Path | None) -> FileEntry | None:
        return None if path is None else self._send(path, path.name)

    def _send(self, path: Path, name: str) -> FileEntry:
        known = self._sent.get(path)
        if known is None:
            ref = hash_file(path)
            upload(path, ref, self.tickets, link=self.link, on_progress=self._progress(ref))
            known = FileEntry.of(ref)
            self._sent[path] = known
        return known.model_copy(update={"name": name})

    def _progress(self, file: FileRef) -> Callable[[int], None] | None:
        report = self.on_bytes
        if report is None:
            return None
        return lambda sent: report(file.name, sent, file.size_bytes)


def together(errors: Sequence[FarmError]) -> FarmError:
    """Make one error of several: the first one's kind, every message."""
    first, *others = errors
    if not others:
        return first
    message = "\n".join(error.message for error in errors)
    return type(first)(message, remedy=first.remedy, **first.evidence)


def _data(given: Arrays | None, folder: Path, preprocessing: Mapping[str, Any] | None, *, what: str) -> Path | None:
    return None if given is None else data_file(given, folder, what=what, preprocessing=preprocessing)
