"""A farm on one machine and an emulated ARM host on another, as the tests of emulated hosts need them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.namespaces import Machine, machines

REPOSITORY = Path(__file__).parents[1]
ROOTS = REPOSITORY / "build" / "roots"
SERVICES = ("postgres", "redis", "s3", "api", "control")
READY_S = 400.0
JOB_S = 480.0
STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A farm on a machine of its own, and a machine beside it."""

    info: dict[str, Any]
    farm: Machine
    beside: Machine
    folder: Path

    def command(self, *arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Run `farm …` on the farm's machine as a user does."""
        variables = os.environ | {"FARM_URL": self.info["api"], "FARM_TOKEN": self.info["token"], "COLUMNS": "160"}
        argv = self.farm.command(sys.executable, "-m", "farm.cli.main", *arguments)
        return subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=timeout_s, cwd=REPOSITORY)

    def submit(self, *arguments: str) -> dict[str, Any]:
        """Submit, wait, and give the report."""
        done = self.command("submit", *arguments, "--wait", "--json", timeout_s=JOB_S)
        assert done.stdout, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    @contextmanager
    def host(self, root: Path, profile: str, *options: str) -> Iterator[Path]:
        """Enroll an emulated host and run its worker on the machine beside, until it is live; gives its log."""
        log = self.folder / f"{profile}{''.join(options)}.log"
        name = f"emulated-{len(list(self.folder.glob('*.log')))}"
        variables = {
            **os.environ,
            "FARM_URL": self.info["api"],
            "FARM_TOKEN": self.enroll(name, profile),
            "FARM_REDIS_URL": self.info["redis_worker"],
            "FARM_HEARTBEAT_S": "1",
            "FARM_WORK_DIR": str(self.folder / name / "work"),
            "FARM_CACHE_DIR": str(self.folder / name / "cache"),
        }
        argv = [sys.executable, "-m", "farm.cli.main", "worker", "--profile", profile, "--root", str(root), *options]
        with (
            log.open("wb") as written,
            subprocess.Popen(
                self.beside.command(*argv), env=variables, stdout=written, stderr=written, cwd=REPOSITORY
            ) as process,
        ):
            try:
                self._await_live(name, process, log)
                yield log
            finally:
                end(process)

    def enroll(self, name: str, profile: str) -> str:
        """Give a host its own token, as an operator does; the token names the host."""
        enrolled = self.command("host", "enroll", name, "--profile", profile, "--json")
        assert enrolled.returncode == 0, enrolled.stderr
        token: str = json.loads(enrolled.stdout)["token"]
        return token

    def hosts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.command("hosts", "--json").stdout)
        return found

    def _await_live(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + READY_S
        while "ready." not in log.read_text(errors="replace"):
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            time.sleep(0.3)
        assert any(host["name"] == name and host["live"] for host in self.hosts())


def end(process: subprocess.Popen[bytes]) -> None:
    """Tell a worker to stop; one that still runs a step after a while is killed, and its children die with it."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def farm_elsewhere(*parts: str) -> Iterator[Elsewhere]:
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="farm-elsewhere-")))
        folder.chmod(0o711)
        farm, beside = held.enter_context(machines("farm", "arm"))
        argv = farm.command(
            *(sys.executable, "-m", "tests.farm_elsewhere", str(folder / "data"), farm.address, ",".join(parts))
        )
        process = held.enter_context(
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        )
        assert process.stdout
        line = process.stdout.readline()
        assert line, "the farm did not come up"
        try:
            yield Elsewhere(json.loads(line), farm, beside, folder)
        finally:
            process.communicate(timeout=60)


def root_of(machine: str) -> Path:
    """Make the root of an architecture, unless it is there from the same locks."""
    root = ROOTS / machine
    argv = [sys.executable, "-m", "workers.environments", "root", str(root), "--architecture", machine]
    subprocess.run(argv, check=True, cwd=REPOSITORY, timeout=400)
    return root
