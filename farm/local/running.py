"""Start, adopt, await and stop parts. DIR/run/PART.json tells what runs, so any process of ours can take over."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from farm.domain.codec import decode, encode
from farm.domain.errors import Conflict, FarmUnreachable
from farm.local import process
from farm.local.folder import Folder, read_json, storage_errors, write_private
from farm.local.part import NotReady, Part
from farm.local.ports import require_free
from farm.local.process import Command, ProcessIdentity

POLL_S, LONGEST_POLL_S = 0.05, 0.25
TAIL_BYTES = 3000
LONGEST_LOG_BYTES = 16 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Record:
    """A started part, and what it takes to stop it without its definition."""

    part: str
    level: int
    identity: ProcessIdentity
    argv: tuple[str, ...]
    started: str
    stop_signal: int
    stop_within_s: float

    @property
    def started_at(self) -> datetime:
        return datetime.fromisoformat(self.started)


def _record_path(folder: Folder, part: str) -> Path:
    return folder.run / f"{part}.json"


def read_record(folder: Folder, part: str) -> Record | None:
    found = read_json(_record_path(folder, part))
    return None if found is None else decode(Record, found)


def records(folder: Folder) -> list[Record]:
    """Read every record, parts of the highest level first: the order of stopping."""
    found = [read_record(folder, path.stem) for path in folder.run.glob("*.json")]
    return sorted((record for record in found if record), key=lambda record: -record.level)


def running(folder: Folder, part: str) -> Record | None:
    """Return the record of a part that lives and is ours."""
    record = read_record(folder, part)
    return record if record and record.identity.is_alive() else None


def mark(folder: Folder) -> str:
    """Return the environment entry by which a process of this stack is known."""
    return f"FARM_STACK={folder.root}"


def start(folder: Folder, part: Part) -> Record:
    """Start a part and write it down.

    Raises:
        FarmError: what it needs is not there (port, space, program).
    """
    with storage_errors(folder.root):
        part.prepare()
        for name, (host, port) in part.ports.items():
            require_free(name, port, host=host, kept_in=folder.root / "ports.json")
        started = datetime.now(UTC).isoformat()
        _rotate(folder.log(part.name))
        environment = {**part.environment, "FARM_STACK": str(folder.root)}
        identity = process.spawn(
            Command(part.argv, environment, log=folder.log(part.name), cwd=part.cwd, account=part.account)
        )
        record = Record(part.name, part.level, identity, part.argv, started, part.stop_signal, part.stop_within_s)
        write_private(_record_path(folder, part.name), json.dumps(encode(record)))
    return record


def _rotate(log: Path) -> None:
    """Keep one older log of a part that was started after a long one."""
    if log.exists() and log.stat().st_size > LONGEST_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def adopt_or_start(folder: Folder, part: Part, on_progress: Progress) -> Record:
    """Keep a living part of ours that runs the same command; else end what is left of it and start it."""
    record = running(folder, part.name)
    if record and record.argv == part.argv:
        on_progress(f"{part.name}: already runs (pid {record.identity.pid})")
        return record
    stop(folder, part.name)
    with storage_errors(folder.root):
        part.clean()
    record = start(folder, part)
    on_progress(f"{part.name}: started (pid {record.identity.pid}), log {folder.log(part.name)}")
    return record


def await_ready(folder: Folder, part: Part, record: Record) -> None:
    """Wait until a part that was just started answers.

    Raises:
        FarmUnreachable: it ended, or took too long; names the part and shows the end of its log.
    """
    deadline = time.monotonic() + part.ready_within_s
    for pause_s in _pauses():
        missing = _missing(part, record)
        if missing is None:
            return
        if not record.identity.is_alive():
            raise _failed(folder, part.name, "ended before it answered")
        if time.monotonic() > deadline:
            raise _failed(folder, part.name, f"does not answer after {part.ready_within_s:.0f} s: {missing}")
        time.sleep(pause_s)


def await_answer(folder: Folder, part: Part, *, other_than: int | None = None) -> Record:
    """Wait until a part answers that a supervisor starts, perhaps several times, under a pid that is not `other_than`.

    Raises:
        FarmUnreachable: it does not; names the part and shows the end of its log.
    """
    deadline = time.monotonic() + part.ready_within_s
    missing: str | None = "it does not run"
    for pause_s in _pauses():
        record = running(folder, part.name)
        if record and record.identity.pid != other_than:
            missing = _missing(part, record)
            if missing is None:
                return record
        if time.monotonic() > deadline:
            break
        time.sleep(pause_s)
    raise _failed(folder, part.name, f"does not answer after {part.ready_within_s:.0f} s: {missing}")


def _pauses() -> Iterator[float]:
    pause_s = POLL_S
    while True:
        yield pause_s
        pause_s = min(LONGEST_POLL_S, pause_s * 1.2)


def _missing(part: Part, record: Record) -> str | None:
    """Say what a part does not do yet; None when it answers."""
    try:
        part.probe(record.started_at)
    except NotReady as exc:
        return str(exc)
    return None


def _failed(folder: Folder, part: str, what: str) -> FarmUnreachable:
    tail = log_tail(folder.log(part))
    return FarmUnreachable(
        f"The part {part} {what}. The end of its log:\n{tail}",
        remedy=f"Read {folder.log(part)}, mend what it names, and run `farm up` again.",
        part=part,
        log_tail=tail,
    )


def log_tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode(errors="replace").strip()


def start_all(folder: Folder, parts: Sequence[Part], on_progress: Progress) -> None:
    """Adopt or start parts level by level, each level once the one below answers; end what nobody knows.

    Raises:
        FarmError: a part cannot start, or does not answer.
    """
    stop_strays(folder)
    for level in sorted({part.level for part in parts}):
        begun = [(part, adopt_or_start(folder, part, on_progress)) for part in parts if part.level == level]
        for part, record in begun:
            await_ready(folder, part, record)
            on_progress(f"{part.name}: ready")


def stop(folder: Folder, part: str) -> None:
    """Stop a part by its record; a stranger that has its pid now is left alone."""
    record = read_record(folder, part)
    if record is not None:
        _stop_together(folder, [record])


def stop_all(folder: Folder, on_progress: Progress) -> None:
    """Stop everything but ourselves, the highest level first, one level at a time."""
    found = records(folder)
    for level in sorted({record.level for record in found}, reverse=True):
        group = [record for record in found if record.level == level and record.identity.pid != os.getpid()]
        _stop_together(folder, group)
        for record in group:
            on_progress(f"{record.part}: stopped")
    stop_strays(folder)
    for path in [*folder.run.glob("*.json"), *folder.run.glob("*.hold")]:
        path.unlink()


def _stop_together(folder: Folder, group: Sequence[Record]) -> None:
    for record in group:
        process.ask(record.identity, signal.Signals(record.stop_signal))
    for record in group:
        process.finish(record.identity, within_s=record.stop_within_s)
        _record_path(folder, record.part).unlink(missing_ok=True)


def stop_strays(folder: Folder) -> None:
    """End processes of this stack that belong to no living part: whoever started them died too early."""
    known = {record.identity.pid for record in records(folder) if record.identity.is_alive()}
    for identity in process.marked_outside(mark(folder), known):
        process.ask(identity, signal.SIGKILL)
        process.finish(identity, within_s=5.0)


def record_self(folder: Folder, part: str, level: int) -> None:
    """Write this process down as a part, so that others find it and stop it first."""
    identity = process.identify(os.getpid())
    if identity is None:
        raise FarmUnreachable("/proc does not show this process; the embedded stack needs it.", part=part)
    record = Record(part, level, identity, (), datetime.now(UTC).isoformat(), signal.SIGTERM, 60.0)
    write_private(_record_path(folder, part), json.dumps(encode(record)))


def hold(folder: Folder, part: str) -> None:
    """Keep a part from being restarted."""
    (folder.run / f"{part}.hold").touch()


def release(folder: Folder, part: str) -> None:
    (folder.run / f"{part}.hold").unlink(missing_ok=True)


def is_held(folder: Folder, part: str) -> bool:
    return (folder.run / f"{part}.hold").exists()


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder: one process at a time starts and stops its parts.

    Raises:
        Conflict: another one holds it.
    """
    fd = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as exc:
        raise Conflict(f"A stack already runs in {folder.root}.", remedy="Stop it with `farm down`.") from exc
    finally:
        os.close(fd)
