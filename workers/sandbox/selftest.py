"""Prove the isolation level by real attempts, under each policy; `python -m workers.sandbox.selftest` prints them."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from workers.sandbox import landlock, probes
from workers.sandbox.pool import Pool
from workers.sandbox.values import Call, Foreign, Level, Limits

POLICIES = ("fork", "fresh", "spawns")
FOREIGN_POLICIES = ("fresh", "spawns")
"""An emulated child is exec'd, always."""
_LIMITS = Limits(wall_s=20, memory_bytes=256 << 20, disk_bytes=16 << 20, file_bytes=8 << 20, threads=64)
_LONGEST_SOCKET_FOLDER = 80
"""A socket's path holds 107 bytes at most (unix(7)); the rest is for names below the folder."""
_WITHOUT_NAMESPACES = ("own view of processes", "private /tmp and /dev/shm", "empty network", "separate IPC")


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt under one policy; `refusal` is None when it succeeded."""

    probe: str
    policy: str
    allowed: bool
    refusal: str | None

    @property
    def holds(self) -> bool:
        return (self.refusal is None) == self.allowed


@dataclass(frozen=True, slots=True)
class Trial:
    """All attempts at one level; `errors` are policies that could not be set up."""

    level: Level
    rows: tuple[Row, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.errors and all(row.holds for row in self.rows)

    @property
    def reasons(self) -> tuple[str, ...]:
        wrong = (f"{row.probe} under {row.policy} {_outcome(row)}" for row in self.rows if not row.holds)
        return (*self.errors, *wrong)


@dataclass(frozen=True, slots=True)
class Finding:
    """The level that was proven, what it lacks, and the trials that led to it."""

    level: Level
    missing: tuple[str, ...]
    trials: tuple[Trial, ...] = field(default=())


_FOUND: dict[tuple[Path, Level, int], Finding] = {}


def examine(pool: Pool, *, folder: Path, environment: Path, at_most: Level = Level.FULL) -> Finding:
    """Return the strongest level whose probes all hold; known after the first time in a process."""
    key = (environment.absolute(), at_most, os.geteuid())
    if key not in _FOUND:
        _FOUND[key] = _examine(pool, folder, environment, at_most)
    return _FOUND[key]


def _examine(pool: Pool, folder: Path, environment: Path, at_most: Level) -> Finding:
    order = (Level.FULL, Level.PARTIAL)
    trials: list[Trial] = []
    for level in order[order.index(at_most) :] if at_most in order else ():
        trials.append(attempt(pool, level, folder=folder, environment=environment))
        if trials[-1].holds:
            break
    level = trials[-1].level if trials and trials[-1].holds else Level.NONE
    return Finding(level, _missing(level, trials, at_most), tuple(trials))


def _missing(level: Level, trials: list[Trial], at_most: Level) -> tuple[str, ...]:
    lacks = [f"{trial.level}: {reason}" for trial in trials if trial.level is not level for reason in trial.reasons]
    if at_most is not Level.FULL:
        lacks.insert(0, f"nothing above {at_most} was tried, as asked")
    if level is not Level.FULL:
        lacks += _WITHOUT_NAMESPACES
        lacks += ("sight of deleted files that a child keeps open",) if os.geteuid() else ()
    return (*lacks, *landlock.lacking())


def attempt(pool: Pool, level: Level, *, folder: Path, environment: Path, foreign: Foreign | None = None) -> Trial:
    """Run all probes at one level under every policy."""
    rows: list[Row] = []
    errors: list[str] = []
    for policy in POLICIES if foreign is None else FOREIGN_POLICIES:
        with _targets(folder) as (targets, work):
            call = Call(environment, "workers.sandbox.probes:main", work, (), _LIMITS)
            call = replace(call, fresh=policy == "fresh" or foreign is not None, spawns=policy == "spawns")
            call = replace(call, foreign=foreign)
            ending = pool.run(call, level)
            if ending.end != "exit" or ending.exit_code != 0:
                errors.append(f"policy {policy}: {ending.end} {ending.detail or _log(work)}")
                continue
            rows += _rows(policy, work, targets)
    return Trial(level, tuple(rows), tuple(errors))


def _rows(policy: str, work: Path, targets: probes.Targets) -> list[Row]:
    results: dict[str, str | None] = json.loads((work / probes.RESULTS).read_text())
    allowed = {probe.__name__ for probe in probes.NEEDED}
    if policy == "spawns":
        allowed |= {probe.__name__ for probe in probes.SPAWNING}
    return [Row(name, policy, name in allowed, refusal) for name, refusal in results.items()]


def _log(work: Path) -> str:
    log = work / "log.txt"
    return log.read_text(errors="replace")[-300:].strip() if log.is_file() else ""


@contextmanager
def _targets(folder: Path) -> Iterator[tuple[probes.Targets, Path]]:
    """Set up what the probes attack, and a work folder that describes it."""
    with ExitStack() as stack:
        outside = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_short(folder), prefix="o")))
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="w")))
        outside.chmod(0o755)
        (outside / "secret.txt").write_text("secret")
        (outside / "secret.txt").chmod(0o644)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        marker = f"probe-{secrets.token_hex(8)}"
        for address in ("\0" + marker, f"{outside}/socket"):
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).bind(address)
        (outside / "socket").chmod(0o666)
        targets = probes.Targets(
            os.getpid(),
            os.getpgrp(),
            tcp.getsockname()[1],
            udp.getsockname()[1],
            marker,
            str(outside.absolute()),
            marker,
        )
        (work / probes.TARGETS).write_text(json.dumps(asdict(targets)))
        yield targets, work


def _short(folder: Path) -> Path:
    """Give a folder in which a socket's path is not too long: this one, else the system's temporary one."""
    return folder if len(os.fsencode(folder.absolute())) <= _LONGEST_SOCKET_FOLDER else Path("/tmp")  # noqa: S108


def _outcome(row: Row) -> str:
    return "succeeded" if row.refusal is None else f"was refused ({row.refusal})"


def table(finding: Finding) -> str:
    """Draw probes by policies, one block per level tried."""
    lines = [f"level {finding.level}", *(f"  missing: {text}" for text in finding.missing)]
    for trial in finding.trials:
        lines += ["", f"{trial.level:<26}" + "".join(f"{policy:<24}" for policy in POLICIES)]
        by_probe: dict[str, dict[str, Row]] = {}
        for row in trial.rows:
            by_probe.setdefault(row.probe, {})[row.policy] = row
        for probe, rows in by_probe.items():
            lines.append(f"  {probe:<24}" + "".join(f"{_cell(rows.get(policy)):<24}" for policy in POLICIES))
        lines += [f"  error: {error}" for error in trial.errors]
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    verdict = "" if row.holds else "WRONG: "
    return verdict + ("works" if row.refusal is None else f"no ({row.refusal})")


def main(arguments: list[str]) -> int:
    """Print the table; with an argument, try nothing above that level."""
    at_most = Level(arguments[0]) if arguments else Level.FULL
    code_root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory(prefix="farm-") as folder:
        Path(folder).chmod(0o711)
        pool = Pool(folder=Path(folder), code_root=code_root, slots=1)
        try:
            finding = examine(pool, folder=Path(folder), environment=Path(sys.prefix), at_most=at_most)
        finally:
            pool.close()
    print(table(finding))
    return 0 if finding.level is not Level.NONE else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
