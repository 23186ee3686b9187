"""Call `edgetpu_compiler`, which the operator supplies: find it, run it, read everything it leaves.

Tool: edgetpu_compiler 16.0.384591198, x86-64 Linux, proprietary (docs/edge-tpu.md says what its notice bars).
Document: Coral, Edge TPU Compiler. Limits: versions before 15 have other options and other output; they are refused.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from farm.domain.errors import (
    ArtifactBroken,
    ConversionFailed,
    EnvironmentMissing,
    FarmError,
    ToolCrashed,
    ToolTimedOut,
)
from workers.edgetpu.compiler_log import CompilerReport, parse_compiler_log, with_logs

PROGRAM = "edgetpu_compiler"
OLDEST = (15, 0)
_VERSION = re.compile(r"version (\d+(?:\.\d+)*)")
_VERSION_S = 30.0
_GRACE_S = 30.0
"""The compiler ends itself at its own timeout; one that does not is ended this much later."""
MOST_S = 1740.0
"""What all runs for one step may take together: the stage's limit of 1800 s, less reading the result back."""
MOST_TIMEOUT_S = int(MOST_S - _GRACE_S)
_MOST_RUNS = 3
"""Where a retry is known to help: the same file compiles on a later try. Source: google-coral/edgetpu#211 #409."""
_TAIL = 4000
_LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Compiler:
    """An installed compiler, identified."""

    path: Path
    version: str
    sha256: str

    def as_facts(self) -> dict[str, str]:
        return {"name": PROGRAM, "version": self.version, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Flags:
    """What the compiler is told; 1 segment means the whole model."""

    min_runtime_version: int
    search_delegate: bool
    num_segments: int
    intermediate_tensors: tuple[str, ...]
    timeout_s: int

    def arguments(self) -> list[str]:
        told = [
            "--show_operations",
            f"--min_runtime_version={self.min_runtime_version}",
            f"--timeout_sec={self.timeout_s}",
        ]
        if self.search_delegate:
            told.append("--search_delegate")
        if self.num_segments > 1:
            told.append(f"--num_segments={self.num_segments}")
        if self.intermediate_tensors:
            told.append(f"--intermediate_tensors={','.join(self.intermediate_tensors)}")
        return told


@dataclass(frozen=True, slots=True)
class Compilation:
    """What a successful run left: its files in the order of the models, then of their segments, and what it said.

    `runs` counts how often the compiler was called until it succeeded.
    """

    files: tuple[Path, ...]
    report: CompilerReport
    output: str
    runs: int

    def as_facts(self) -> dict[str, Any]:
        """Return what it said, but for the mapping, as JSON values; sizes as it rounded them."""
        models = [asdict(model) for model in self.report.models]
        return {
            "runs": self.runs,
            "search_tries": self.report.tries,
            "compiled_ms": self.report.compiled_ms,
            "models": models,
        }


def find_compiler(program: str = PROGRAM) -> Compiler:
    """Identify the compiler on PATH, or at a path.

    Args:
        program: a name to look for on PATH, or a path.

    Raises:
        EnvironmentMissing: there is none, it does not tell its version, or it is too old.
    """
    found = shutil.which(program)
    if found is None:
        raise EnvironmentMissing(
            f"This build host has no {program}. The farm may not ship it; its operator has to install it.",
            remedy="Install Coral's edgetpu-compiler on an x86-64 build host, so that it is on the steps' PATH.",
        )
    path = Path(found)
    told = _first_line(path)
    version = _VERSION.search(told)
    if version is None:
        raise EnvironmentMissing(f"{path} --version says {told!r}, which names no version.", remedy="Install it anew.")
    if tuple(map(int, version[1].split(".")[:2])) < OLDEST:
        raise EnvironmentMissing(
            f"{path} is version {version[1]}; {'.'.join(map(str, OLDEST))} or newer is needed.",
            remedy="Install the last one, 16.0.",
        )
    return Compiler(path, version[1], digest_of(path))


def digest_of(program: Path) -> str:
    """Identify a program: by its bytes, and where it only starts what lies in `NAME_bin/` beside it, by those too.

    Coral's package installs /usr/bin/edgetpu_compiler as a script of a few lines, the same in every version.
    """
    found = program.resolve()
    beside = found.with_name(f"{found.name}_bin")
    told = hashlib.sha256(found.read_bytes())
    for path in sorted(path for path in beside.rglob("*") if path.is_file()):
        told.update(f"\0{path.relative_to(beside)}\0".encode())
        told.update(hashlib.sha256(path.read_bytes()).digest())
    return told.hexdigest()


def _first_line(path: Path) -> str:
    try:
        ran = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_VERSION_S)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise EnvironmentMissing(f"{path} does not run on this host: {exc}.", remedy="Install it anew.") from exc
    return (ran.stdout or ran.stderr).decode(errors="replace").strip().partition("\n")[0][:200]


def program_digest(folders: str, program: str = PROGRAM) -> str | None:
    """Identify the compiler on a search path without running it: what a host attests, and a step's key holds."""
    found = shutil.which(program, path=folders)
    return None if found is None else digest_of(Path(found))


def command(compiler: Compiler, models: Sequence[Path], folder: Path, flags: Flags) -> list[str]:
    return [str(compiler.path), "--out_dir", str(folder), *flags.arguments(), *map(str, models)]


def compile_models(compiler: Compiler, models: Sequence[Path], folder: Path, flags: Flags) -> Compilation:
    """Compile one model into `folder`, which is empty, or several together, so that they share the device's memory.

    The first of several is cached first. The compiler splits one model only. It is called again, twice at most, after
    a failure that is known to pass.

    Raises:
        ToolTimedOut, ToolCrashed: it did not end by itself, or died by a signal.
        ConversionFailed: it said no, or mapped nothing.
        ArtifactBroken: it reported success and left no file, or an empty one.
    """
    deadline = time.monotonic() + MOST_S
    for runs in range(1, _MOST_RUNS + 1):
        try:
            return replace(_compiled(compiler, models, folder, (flags, deadline - time.monotonic())), runs=runs)
        except (ConversionFailed, ArtifactBroken) as failed:
            passing = failed.evidence.pop("passing")
            if runs == _MOST_RUNS or not passing or deadline - time.monotonic() < _GRACE_S:
                failed.evidence["runs"] = runs
                raise
        for left in folder.iterdir():
            left.unlink()
    raise AssertionError("unreachable")


def _compiled(compiler: Compiler, models: Sequence[Path], folder: Path, allowed: tuple[Flags, float]) -> Compilation:
    """Call the compiler once; `passing` of a failure's evidence says whether another call may succeed."""
    flags, left_s = allowed
    argv, due = command(compiler, models, folder, flags), len(models) * flags.num_segments
    output, code = _run(argv, min(left_s, _longest_s(flags, due)), compiler)
    report = parse_compiler_log(output)
    evidence: dict[str, Any] = {"tool": PROGRAM, "version": compiler.version, "exit": code, "log_tail": output[-_TAIL:]}
    if (died_by := _signal_of(code)) is not None:
        raise ToolCrashed(f"{PROGRAM} {compiler.version} died by {died_by.name}.", **evidence)
    if code != 0 or not report.succeeded:
        passing = any(each.message.retry for each in report.diagnoses)
        raise _refused(report, compiler, len(models), evidence | {"passing": passing})
    files = made_of(models, folder)
    if len(files) != due or any(file.stat().st_size == 0 for file in files):
        left = ", ".join(f"{file.name} of {file.stat().st_size} bytes" for file in files) or "no file"
        raise ArtifactBroken(
            f"{PROGRAM} {compiler.version} reported success and left {left}; {due} were due.", passing=True, **evidence
        )
    logs = {file.name: _log_of(file) for file in files}
    report = with_logs(report, logs)
    if not _mapped(report):
        reasons = "; ".join(sorted({f"{row.type}: {row.status}" for row in report.operators})) or "no reason was given"
        raise ConversionFailed(
            f"{PROGRAM} {compiler.version} mapped no operator to the Edge TPU ({reasons}).",
            remedy="Quantize every operator to int8, inputs and outputs too, and fix every shape.",
            passing=False,
            **evidence,
        )
    return Compilation(files, report, "\n".join((output, *logs.values())).rstrip(), 1)


def _signal_of(code: int) -> signal.Signals | None:
    """Name what the compiler died by: a shell that started it says so as 128 + N, as Coral's script may."""
    number = -code if code < 0 else code - 128
    return signal.Signals(number) if number in set(signal.Signals) else None


def _longest_s(flags: Flags, due: int) -> float:
    """Say how long one call may take: the compiler's timer runs anew for every try of a search, and every part."""
    return MOST_S if flags.search_delegate or due > 1 else flags.timeout_s + _GRACE_S


def _log_of(file: Path) -> str:
    """Read the log of operations that lies beside a compiled file; empty where there is none."""
    log = file.with_suffix(".log")
    if not log.is_file():
        return ""
    with log.open("rb") as opened:
        return opened.read(_LOG_BYTES).decode(errors="replace")


def made_of(models: Sequence[Path], folder: Path) -> tuple[Path, ...]:
    """List compiled files in the order of their models; segments of a model, of which there may be ten, by number."""
    found = [(path.name, path) for path in folder.glob("*_edgetpu.tflite")]
    ordered: list[Path] = []
    for model in models:
        segment = re.compile(rf"{re.escape(model.stem)}(?:_segment_(\d+)_of_\d+)?_edgetpu\.tflite")
        matched = [(int(match[1] or 0), path) for name, path in found if (match := segment.fullmatch(name))]
        ordered += [path for _, path in sorted(matched)]
    return tuple(ordered)


def _mapped(report: CompilerReport) -> bool:
    """Tell whether anything runs on the device; output without such lines is left to the file."""
    if report.operators:
        return report.mapped_count > 0
    return all(model.edge_tpu_subgraphs != 0 for model in report.models)


def _run(argv: list[str], timeout_s: float, compiler: Compiler) -> tuple[str, int]:
    """Run the compiler; its output and errors are one text."""
    try:
        ran = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as exc:
        tail = (exc.stdout or b"").decode(errors="replace")[-_TAIL:]
        raise ToolTimedOut(
            f"{PROGRAM} {compiler.version} did not end within {timeout_s:g} s and was stopped.",
            remedy="Raise compile_timeout_s, or leave search_delegate off.",
            log_tail=tail,
        ) from exc
    except OSError as exc:
        raise EnvironmentMissing(f"{compiler.path} can't be run: {exc}.", remedy="Install it anew.") from exc
    return ran.stdout.decode(errors="replace"), ran.returncode


def _refused(report: CompilerReport, compiler: Compiler, count: int, evidence: Mapping[str, Any]) -> FarmError:
    """Say why, in the words of what is known about the compiler's messages."""
    known = report.diagnoses[0] if report.diagnoses else None
    what = "the model" if count == 1 else f"{count} models together"
    said = f": {known.said} ({known.message.cause})" if known else "; what it printed is in the log"
    return ConversionFailed(
        f"{PROGRAM} {compiler.version} did not compile {what}{said}.",
        remedy=known.message.remedy if known else None,
        **evidence,
    )
