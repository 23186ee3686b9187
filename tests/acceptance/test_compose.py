"""compose.yaml without compose: each service's own command in its own image, together on a machine of its own."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.container_images import REPOSITORY, Container, build
from tests.namespaces import Machine, machines

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(3600)]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "docker" / "compose.yaml").read_text())["services"]
NAMES = tuple(f"{name}:127.0.0.1" for name in SERVICES)
ALONE = ("builder",)
"""Left to test_images, since its image takes 4 GB; it runs the same command as the worker."""
WELL_WITHIN_S = 300.0
MODEL = REPOSITORY / "tests" / "edgetpu_pairs" / "bright_16x16.tflite"


def inside(machine: Machine, command: Sequence[str]) -> list[str]:
    """Enter the machine's network alone: with a view of mounts of its own, buildah would not see its containers."""
    return ["nsenter", f"--net=/run/netns/{machine.namespace}", *command]


@dataclass(frozen=True, slots=True)
class Service:
    """One service that runs: its container, its process, its log."""

    name: str
    container: Container
    process: subprocess.Popen[bytes]
    log: Path
    variables: Mapping[str, str]

    def ask(self, machine: Machine, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a further command in the same container, as `compose exec` does."""
        command = inside(machine, self.container.command(*argv, variables=self.variables))
        return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with machines("compose") as (found,):
        yield found


@pytest.fixture(scope="module")
def credentials() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([".venv/bin/python", "docker/credentials.py", folder], check=True, cwd=REPOSITORY, timeout=60)
        yield Path(folder)


@pytest.fixture(scope="module")
def running(machine: Machine, credentials: Path) -> Iterator[dict[str, Service]]:
    """Start the services in the file's order, each when those that it depends on are well."""
    with ExitStack() as held:
        found: dict[str, Service] = {}
        for name in SERVICES:
            if name not in ALONE:
                for needed in SERVICES[name].get("depends_on", ()):
                    await_well(machine, found[needed])
                found[name] = held.enter_context(started(machine, name, credentials))
        yield found


@contextmanager
def started(machine: Machine, name: str, credentials: Path) -> Iterator[Service]:
    service = SERVICES[name]
    stem = re.fullmatch(r"docker/([a-z0-9-]+)\.Dockerfile", service["build"]["dockerfile"])
    assert stem
    variables = told(service, credentials)
    with build(stem[1]).container(*(f"--add-host={each}" for each in NAMES)) as container, ExitStack() as held:
        log = credentials / f"{name}.log"
        argv = inside(machine, container.command(*service["command"], variables=variables))
        written = held.enter_context(log.open("wb"))
        process = held.enter_context(subprocess.Popen(argv, stdout=written, stderr=written))
        try:
            yield Service(name, container, process, log, variables)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def told(service: Mapping[str, Any], credentials: Path) -> dict[str, str]:
    """Read what compose would put into the environment."""
    lines = [line for path in service["env_file"] for line in (credentials / Path(path).name).read_text().splitlines()]
    given = {
        name: re.sub(r"\$\{FARM_ADDRESS[^}]*\}", "127.0.0.1", value)
        for name, value in service.get("environment", {}).items()
    }
    return dict(line.split("=", 1) for line in lines) | given


def check_of(name: str) -> Sequence[str]:
    asked = SERVICES[name].get("healthcheck")
    return asked["test"][1:] if asked else ("python", "/opt/farm/docker/health.py", "worker")


def await_well(machine: Machine, service: Service) -> None:
    deadline = time.monotonic() + WELL_WITHIN_S
    while (asked := service.ask(machine, *check_of(service.name))).returncode != 0:
        log = service.log.read_text(errors="replace")[-3000:]
        assert service.process.poll() is None, log
        assert time.monotonic() < deadline, f"{service.name}: {asked.stderr[-500:]}\n{log}"
        time.sleep(2)


def farm(machine: Machine, running: Mapping[str, Service], credentials: Path, *argv: str) -> Any:
    """Run a command of a user in the control plane's image."""
    token = dict(line.split("=", 1) for line in (credentials / "user.env").read_text().splitlines())
    api = running["api"].container
    command = inside(machine, api.command("farm", *argv, variables={"FARM_URL": "http://api:8765", **token}))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.stdout, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def test_every_service_is_well(machine: Machine, running: dict[str, Service]) -> None:
    for service in running.values():
        await_well(machine, service)

    answers = {name: service.ask(machine, *check_of(service.name)).returncode for name, service in running.items()}
    assert answers == dict.fromkeys(running, 0)


def test_no_part_is_told_what_is_not_its_own(running: dict[str, Service]) -> None:
    assert not {"FARM_DATABASE_URL", "FARM_S3_SECRET_KEY"} & set(running["worker"].variables)
    assert "FARM_S3_SECRET_KEY" not in running["flower"].variables


def test_the_worker_is_a_host_of_the_farm(machine: Machine, running: dict[str, Service], credentials: Path) -> None:
    await_well(machine, running["worker"])
    hosts = farm(machine, running, credentials, "hosts", "--json")

    assert [host["name"] for host in hosts if host["live"]] == ["worker"]


def test_a_job_is_served_by_the_containers(machine: Machine, running: dict[str, Service], credentials: Path) -> None:
    """Given a quantized TFLite file, which needs no toolchain; then the worker inspects, compares and measures it."""
    with running["api"].container.mounted() as files:
        (files / "var/lib/farm/model.tflite").write_bytes(MODEL.read_bytes())
    asked = ("submit", "/var/lib/farm/model.tflite", "--runtime", "litert", "--wait", "--json")
    profile = farm(machine, running, credentials, "hosts", "--json")[0]["profile"]
    report = farm(machine, running, credentials, *asked, "--target", profile)

    assert report["state"] == "succeeded", report
    assert report["results"][0]["numerics"]["sqnr_db"] >= 60
