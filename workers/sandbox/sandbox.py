"""The sandbox as the worker uses it: proven at start, refused when too weak, never silently weaker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from farm.domain.errors import EnvironmentMissing, IsolationTooWeak
from workers.sandbox import cgroup
from workers.sandbox.launcher import ZygoteFailed
from workers.sandbox.pool import CODE_FOLDERS, Pool
from workers.sandbox.selftest import examine
from workers.sandbox.values import Call, Ending, Level


@dataclass(frozen=True, slots=True)
class Setup:
    """What a sandbox finds out by itself unless it is told.

    Attributes:
        at_most: the strongest level to try.
        code: folders of the code root that a child may read.
        probe_in: environment the probes run in; this interpreter's when None.
        groups: control group (version 2) to make each run's in; the delegated one, if any, when None.
    """

    at_most: Level = Level.FULL
    code: tuple[str, ...] = CODE_FOLDERS
    probe_in: Path | None = None
    groups: Path | None = None


class Sandbox:
    """Runs calls in isolated children; thread-safe.

    Attributes:
        level: what the probes proved at start; every run has it or fails in setup.
        missing: what a weaker level lacks, in words.
    """

    def __init__(
        self, *, folder: Path, accept: Collection[Level], code_root: Path, slots: int = 2, setup: Setup | None = None
    ) -> None:
        """Prove the level by probes, once per process.

        Args:
            folder: for logs of zygotes and the probes' files; made when absent.
            accept: levels to go on with.
            code_root: holds our own code, of which a child may read some folders.
            slots: runs at once.
            setup: what else to decide here instead of finding it out.

        Raises:
            IsolationTooWeak: the level is not accepted.
        """
        setup = setup or Setup()
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        groups = setup.groups or cgroup.delegated()
        self._pool = Pool(folder=folder, code_root=code_root, slots=slots, code=setup.code, groups=groups)
        try:
            environment = setup.probe_in or Path(sys.prefix)
            found = examine(self._pool, folder=folder, environment=environment, at_most=setup.at_most)
            self.level, self.missing = found.level, found.missing
            if self.level not in accept:
                raise IsolationTooWeak(_too_weak(self.level, accept, self.missing), level=self.level.value)
        except BaseException:
            self.close()
            raise

    def run(self, call: Call, *, cancel: threading.Event | None = None) -> Ending:
        """Run one call to its end, or until `cancel` is set; waits for a free slot.

        Raises:
            EnvironmentMissing: the environment has no interpreter.
        """
        return self._pool.run(call, self.level, cancel)

    def warm(self, environment: Path, preload: tuple[str, ...] = ()) -> None:
        """Start a zygote ahead of its first run, unless it would cost another one its place in memory.

        Raises:
            EnvironmentMissing: no interpreter, or its imports fail.
        """
        if self._pool.is_short():
            return
        try:
            self._pool.warm(environment, preload)
        except ZygoteFailed as exc:
            raise EnvironmentMissing(f"{environment} cannot start with {', '.join(preload)}: {exc}") from exc

    def zygote_pids(self) -> tuple[int, ...]:
        return self._pool.zygote_pids()

    def close(self) -> None:
        """End all zygotes, and with them every run."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _too_weak(level: Level, accept: Collection[Level], missing: tuple[str, ...]) -> str:
    accepted = ", ".join(sorted(accept)) or "nothing"
    return f"This host isolates at level {level}, accepted is {accepted}. Missing: {'; '.join(missing) or 'nothing'}."
