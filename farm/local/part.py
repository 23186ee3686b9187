"""What a part of the stack is: a command, when it is ready, how it stops. The supervisor knows nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from farm.local.accounts import Account

BASE_NAMES = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"),
    *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "PYTHONPATH", "VIRTUAL_ENV"),
)


class NotReady(Exception):
    """A part does not answer (yet); the message says what is missing."""


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process.

    Attributes:
        level: parts of one level start together, after the level below answers; they stop in the opposite order.
        prepare: run before each start; raises FarmError when the part cannot start.
        probe: raises NotReady until the part answers; given is when the process started (aware UTC).
        clean: removes what a killed process leaves behind; run after each end.
    """

    name: str
    level: int
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    probe: Callable[[datetime], None]
    cwd: Path
    prepare: Callable[[], None] = nothing
    clean: Callable[[], None] = nothing
    account: Account | None = None
    ready_within_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 10.0
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)
