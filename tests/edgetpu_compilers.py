"""Install the stand-in for edgetpu_compiler: it proves the adapter, never the compiler."""

from __future__ import annotations

from pathlib import Path

from tests.stage_fixtures import ROOT

PAIRS = ROOT / "tests" / "edgetpu_pairs"
PYTHON = ROOT / ".envs" / "litert" / "bin" / "python3"
STAND_IN = ROOT / "tests" / "edgetpu_stand_in.py"


def stand_in(folder: Path, mode: str, *, execs: bool = True) -> Path:
    """Write an executable that behaves like the compiler in one way; without `execs` a shell waits for it."""
    program = folder / "edgetpu_compiler"
    call = f'{PYTHON} {STAND_IN} {mode} {PAIRS} "$@"'
    program.write_text(f"#!/bin/sh\nexec {call}\n" if execs else f"#!/bin/sh\n{call}\nexit $?\n")
    program.chmod(0o755)
    return program
