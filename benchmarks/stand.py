"""The farm under test: a stack of its own in a temporary folder, the command line, and what the ledger recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from farm.client import Client
from farm.domain.errors import FarmUnreachable
from farm.ledger import Ledger
from farm.local import Stack, StackInfo
from workers.sandbox.processes import descendants

FARM = Path(sys.executable).with_name("farm")
ENVIRONMENTS = Path(os.environ.get("FARM_ENVIRONMENTS_DIR", Path(sys.prefix).parent / ".envs")).resolve()
WARM_WITHIN_S = 180.0
AT_REST_S = 5.0
os.environ.setdefault("FARM_MEASUREMENT_RETRIES", "0")
"""What the farm is held against measures once, whatever else the machine does."""
os.environ.setdefault("FARM_SELF_TEST_EVERY_S", "0")
"""A self-test between two runs would be timed with them."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stand:
    """A running farm and where its data lies."""

    data: Path
    stack: Stack
    info: StackInfo
    client: Client
    ledger: Ledger

    def submit(self, *arguments: str) -> dict[str, Any]:
        """Run `farm submit … --wait --json` as a user would, and return the report."""
        command = [str(FARM), "submit", *arguments, "--wait", "--json"]
        told = {**os.environ, "FARM_URL": self.info.api, "FARM_TOKEN": self.info.token}
        done = subprocess.run(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def rows(self, query: str, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        with self.ledger.transaction() as session:
            return session.execute(text(query), dict(values or {})).all()

    def forget_steps(self) -> None:
        """Give every step but the measurements another key, so that the next job makes them anew."""
        with self.ledger.transaction() as session:
            session.execute(text("UPDATE step SET key = key || '-' || id WHERE kind <> 'measure'"))

    @contextmanager
    def on_core(self, core: int) -> Iterator[None]:
        """Hold every process of the farm, and this one, to one core."""
        everything = os.sched_getaffinity(0)
        self._pin({core})
        try:
            yield
        finally:
            self._pin(everything)

    def _pin(self, cores: set[int]) -> None:
        parts = list((self.stack.info() or self.info).pids.values())
        for pid in [os.getpid(), *parts, *(child for part in parts for child in descendants(part))]:
            for thread in Path(f"/proc/{pid}/task").glob("*"):
                os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def standing(say: Say, *, warm: bool = True) -> Iterator[Stand]:
    """Bring a farm up, wait until its zygotes are warm where that is wanted, and take it down again."""
    data = Path(tempfile.mkdtemp(prefix="farm-bench-"))
    data.chmod(0o711)
    with ExitStack() as held:
        held.callback(shutil.rmtree, data)
        stack = Stack(data)
        held.callback(stack.down)
        info = stack.up(on_progress=say)
        client = held.enter_context(Client(info.api, info.token))
        ledger = Ledger(info.database, application="farm-bench", pool_size=2)
        held.callback(ledger.close)
        if warm:
            say("waiting for warm zygotes")
            _await_warm(stack)
        yield Stand(data, stack, info, client, ledger)


def _await_warm(stack: Stack) -> None:
    """Wait until the worker's zygotes are at rest: all are started that it wants, or that its memory lets it keep.

    Raises:
        FarmUnreachable: they did not come to rest in time.
    """
    pause = threading.Event()
    worker, before, since = stack.pid("worker"), frozenset[int](), time.monotonic()
    deadline = since + WARM_WITHIN_S
    while time.monotonic() < deadline:
        zygotes = frozenset(pid for pid in descendants(worker) if b"workers.sandbox.zygote" in _command(pid))
        if zygotes != before or any(_is_busy(pid, pause) for pid in zygotes):
            before, since = zygotes, time.monotonic()
        if zygotes and time.monotonic() - since > AT_REST_S:
            return
        pause.wait(1.0)
    raise FarmUnreachable(f"The worker's zygotes were not warm within {WARM_WITHIN_S:g} s.")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _is_busy(pid: int, pause: threading.Event) -> bool:
    before = _cpu_ticks(pid)
    pause.wait(0.2)
    return _cpu_ticks(pid) > before


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])
