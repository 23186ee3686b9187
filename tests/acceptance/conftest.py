"""One real farm for all acceptance tests, with short time constants, and tiny models that nothing else has seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from farm.client import Client
from farm.local import Stack, StackInfo

REPOSITORY = Path(__file__).parents[2]
SHORT = {
    "FARM_LEASE_S": "4",
    "FARM_HEARTBEAT_S": "1",
    "FARM_REPUBLISH_AFTER_S": "2",
    "FARM_CONTROL_TICK_S": "0.3",
    "FARM_HOST_GRACE_S": "60",
    "FARM_MAX_ATTEMPTS": "20",
    "FARM_RETRY_BACKOFF_S": "0.2",
    "FARM_MEASUREMENT_PROCESSES_MAX": "3",
    "FARM_MEASUREMENT_RETRIES": "0",
    "FARM_MAX_FILE_BYTES": str(64 << 20),
    "FARM_HOST_NAME": "acceptance",
    "FARM_SELF_TEST_EVERY_S": "0",
}


@dataclass(frozen=True, slots=True)
class Farm:
    """A farm under test: its stack, its client, its command line, its ledger."""

    stack: Stack
    info: StackInfo
    models: Path

    @property
    def client(self) -> Client:
        return Client(self.info.api, self.info.token)

    def command(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `farm …` as a user does."""
        variables = os.environ | {"FARM_URL": self.info.api, "FARM_TOKEN": self.info.token, "COLUMNS": "160"}
        command = [sys.executable, "-m", "farm.cli.main", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=timeout_s)

    def submit(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Submit and wait; the exit code and the report."""
        done = self.command("submit", *arguments, "--target", "auto", "--wait", "--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def sql(self, query: str, **values: Any) -> Sequence[Any]:
        """Ask the ledger past all of the farm's code."""
        engine = create_engine(self.info.database)
        try:
            with engine.begin() as connection:
                return connection.execute(text(query), values).all()
        finally:
            engine.dispose()


@pytest.fixture(scope="session")
def models() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="farm-models-"))
    python = REPOSITORY / ".envs" / "builder" / "bin" / "python"
    script = Path(__file__).with_name("tiny_models.py")
    subprocess.run([python, script, folder], check=True, env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"})
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def farm(models: Path) -> Iterator[Farm]:
    data = Path(tempfile.mkdtemp(prefix="farm-acceptance-"))
    data.chmod(0o711)
    stack = Stack(data, settings_overrides=SHORT, durable=False)
    try:
        yield Farm(stack, stack.up(), models)
    finally:
        stack.down()
        shutil.rmtree(data, ignore_errors=True)
