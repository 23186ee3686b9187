"""What a child left behind, read as an untrusted stranger's: re-validated, hashed, nothing followed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from farm.domain.artifact import Artifact, Contract, FileRef
from farm.domain.codec import decode, encode
from farm.domain.errors import (
    ArtifactBroken,
    BadRequest,
    ConfigurationError,
    EnvironmentMissing,
    Failure,
    FarmBug,
    FarmError,
    HostError,
    JobCancelled,
    ToolchainError,
    ToolOutOfDisk,
    ToolOutOfMemory,
    UnsafeModel,
)
from farm.domain.names import check_names
from farm.domain.stage import ON_TARGET, StageSpec
from farm.transfer import hash_file
from workers.endings import ON_NO_ROUTE, died, too_large
from workers.sandbox.values import Call, Ending
from workers.sanity import check_facts, check_outputs, check_storable, storable

RESULT = "result.json"
LOG = "log.txt"
RESULT_LIMIT_BYTES = 64 << 20
MAX_FILES = 20_000
LOG_LIMIT_BYTES = 32 << 20
"""Kept of one run's log."""
_TEXT_LIMIT = 8_000
_NAME_LIMIT = 512


@dataclass(frozen=True, slots=True)
class Made:
    """What a step made: artifacts with the paths of their files, facts, contract."""

    outputs: Mapping[str, Artifact] = field(default_factory=dict)
    paths: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    contract: Mapping[str, Any] | None = None
    reproduce: str | None = None
    cpu_s: float | None = None
    tool_versions: Mapping[str, str] = field(default_factory=dict)


def read_result(work: Path, ending: Ending, call: Call, spec: StageSpec) -> Made:
    """Read what a run of a stage made.

    Raises:
        FarmError: the failure the child told, or how its process ended.
        ArtifactBroken: what it left is unreadable, or not what a stage of its kind gives.
    """
    stage = spec.name
    if ending.end != "exit" or ending.exit_code != 0:
        raise died(ending, call, spec, log_tail(call.work))
    told = _read_json(work / RESULT, stage)
    if told.get("failure") is not None:
        raise _told_failure(told["failure"], call, spec)
    check_storable(told, stage)
    outputs, paths = _outputs(work, _texts(told.get("outputs")), stage)
    check_outputs(spec.kind, outputs, stage)
    said = told.get("facts")
    facts: dict[str, Any] = said if isinstance(said, dict) else {}
    check_facts(spec.kind, facts, stage)
    return Made(
        outputs=outputs,
        paths=paths,
        facts=facts,
        contract=_contract(told.get("contract"), stage),
        cpu_s=ending.cpu_s,
        reproduce=str(told["reproduce"])[:_TEXT_LIMIT] if told.get("reproduce") else None,
        tool_versions=_texts(told.get("tool_versions")),
    )


def _outputs(work: Path, named: Mapping[str, str], stage: str) -> tuple[dict[str, Artifact], dict[str, Path]]:
    """Describe every output that the child names, and find the file of each digest."""
    outputs: dict[str, Artifact] = {}
    paths: dict[str, Path] = {}
    for name, relative in named.items():
        try:
            outputs[name], found = _artifact(work, relative, stage)
        except (OSError, ValueError, RecursionError, UnsafeModel) as exc:
            raise ArtifactBroken(f"Stage {stage} gave an unusable output {name!a}: {exc}") from exc
        paths |= found
    return outputs, paths


def _contract(told: object, stage: str) -> Mapping[str, Any] | None:
    if told is None:
        return None
    try:
        checked: dict[str, Any] = encode(decode(Contract, told))
    except (ValueError, AttributeError) as exc:
        raise ArtifactBroken(f"Stage {stage} gave a contract that can't be read: {exc}") from exc
    return checked


def log_tail(work: Path, lines: int = 20) -> str:
    """Give the last lines of a run's log, without control characters."""
    try:
        with open_regular(work / LOG) as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - 16_384))
            text = opened.read().decode(errors="replace")
    except OSError:
        return ""
    clean = "".join(c for c in text if c == "\n" or c.isprintable())
    return "\n".join(clean.splitlines()[-lines:])


def runs_in(work: Path) -> list[Path]:
    """Return the folders of an attempt's runs (run-0, run-1 … run-10), in the order of their numbers."""
    return sorted(work.glob("run-*"), key=lambda run: (len(run.name), run.name))


def join_logs(work: Path, whole: Path) -> None:
    """Write the logs of an attempt's runs one after the other; one that can't be read, or is cut, is told of.

    Raises:
        OSError: `whole` can't be written.
    """
    with whole.open("wb") as joined:
        for part in (run / LOG for run in runs_in(work)):
            if not os.path.lexists(part):
                continue
            try:
                opened = open_regular(part)
            except OSError as error:
                joined.write(f"[The log of {part.parent.name} can't be read: {error}]\n".encode("utf-8", "replace"))
                continue
            with opened:
                _copy_log(opened, joined)


def _copy_log(opened: BinaryIO, joined: BinaryIO) -> None:
    size_bytes = os.fstat(opened.fileno()).st_size
    left_bytes = LOG_LIMIT_BYTES
    while block := opened.read(min(1 << 20, left_bytes)):
        left_bytes -= len(block)
        joined.write(block)
    if size_bytes > LOG_LIMIT_BYTES:
        joined.write(f"\n[Cut here: {LOG_LIMIT_BYTES} of {size_bytes} bytes of this log are kept.]\n".encode())


def _told_failure(told: object, call: Call, spec: StageSpec) -> FarmError:
    """Rebuild the failure that a child told.

    Model files and the code beside them run in that child, so it is no witness of its host, its operator or a
    cancellation: what it says of these is the tool's failure, or the submitter's where no other route is. What it may
    say is that a package is not there, and of a device that it was given, that it is gone.
    """
    try:
        error = FarmError.from_failure(decode(Failure, storable(told)))
    except (ValueError, TypeError, AttributeError) as exc:
        return FarmBug(f"Stage {spec.name} told a failure that can't be read: {exc}")
    if spec.kind in ON_NO_ROUTE and isinstance(error, (ToolOutOfMemory, ToolOutOfDisk)):
        return too_large(spec, f"came to a limit of its host: {error.message.rstrip('.')}")
    if not isinstance(error, (HostError, ConfigurationError, JobCancelled)):
        return error
    has_device = bool(call.devices) and spec.kind in ON_TARGET
    if type(error) is EnvironmentMissing or (has_device and type(error) in (HostError, ConfigurationError)):
        return error
    kind = BadRequest if spec.kind in ON_NO_ROUTE else ToolchainError
    return kind(
        f"{spec.name} failed and blamed what it can't know of ({error.code}): {error.message}",
        remedy="Look at the log for what the model's own code, or its tool, did before.",
        **{**error.evidence, "told": error.code},
    )


def _read_json(path: Path, stage: str) -> dict[str, Any]:
    try:
        with open_regular(path) as opened:
            if os.fstat(opened.fileno()).st_size > RESULT_LIMIT_BYTES:
                raise ArtifactBroken(f"Stage {stage} told more than {RESULT_LIMIT_BYTES} bytes of facts.")
            told = json.loads(opened.read())
    except (OSError, ValueError, RecursionError) as exc:
        raise ArtifactBroken(f"Stage {stage} left no readable result: {exc}") from exc
    if not isinstance(told, dict):
        raise ArtifactBroken(f"Stage {stage} left a result that is no object.")
    return told


def _artifact(work: Path, relative: str, stage: str) -> tuple[Artifact, dict[str, Path]]:
    _check_names([relative])
    path = work.resolve() / relative
    if path.resolve() != path:
        raise ArtifactBroken(f"Stage {stage} names an output outside its folder, or through a link: {relative!r}.")
    if path.is_dir():
        found = {str(file.relative_to(path)): file for file in _regular_files(path, stage)}
        _check_names(list(found))
        refs = {name: _hashed(file) for name, file in sorted(found.items())}
        files = tuple(FileRef(name, ref.sha256, ref.size_bytes) for name, ref in refs.items())
        if not files:
            raise ArtifactBroken(f"Stage {stage} gave an empty folder {relative!r}.")
        return Artifact(files, is_tree=True), {f.sha256: found[f.name] for f in files}
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise ArtifactBroken(f"Stage {stage} gave {relative!r}, which is no regular file.")
    ref = _hashed(path)
    return Artifact((FileRef(path.name, ref.sha256, ref.size_bytes),)), {ref.sha256: path}


def _check_names(names: Sequence[str]) -> None:
    """Refuse names that a tree may not have, or that no message takes."""
    check_names(names)
    for name in names:
        if len(name) > _NAME_LIMIT:
            raise UnsafeModel(f"The file name {name[:80]!r}… has more than {_NAME_LIMIT} characters; it is refused.")


def _hashed(path: Path) -> FileRef:
    check_plain(path)
    return hash_file(path)


def check_plain(path: Path) -> None:
    """See that a path leads through no link to a regular file; what it names can't change once no child is left.

    Raises:
        OSError: it does not.
    """
    open_regular(path).close()
    if path.parent.resolve() != path.parent.absolute():
        raise OSError(f"{path.name} is reached through a link")


def _regular_files(folder: Path, stage: str) -> Iterator[Path]:
    for count, path in enumerate(sorted(folder.rglob("*"))):
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode) or count > MAX_FILES:
            raise ArtifactBroken(f"Stage {stage} gave {path.name!r}, which is no regular file, or too many files.")
        yield path


def open_regular(path: Path) -> BinaryIO:
    """Open a file that a child may have made: no link is followed, no pipe waited for.

    Raises:
        OSError: it is missing, or no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is no regular file")
    return os.fdopen(descriptor, "rb")


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key)[:200]: str(text)[:_TEXT_LIMIT] for key, text in value.items()}
