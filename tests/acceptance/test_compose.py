"""compose.yaml without compose: each service's own command in its own image, together on a machine of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
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
WELL_WITHIN_S = 300.0
TFLITE = REPOSITORY / "tests" / "edgetpu_pairs" / "bright_16x16.tflite"
ONNX = REPOSITORY / "workers" / "runtimes" / "reference_model" / "reference.onnx"
USER = 10001
HOSTS = ("builder", "worker")
SAME_DB = 60
HERE = "/srv/models"
"""Where a user's folder is seen by the commands of a user."""


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
def models() -> Iterator[Path]:
    """Give the folder of a user: models to submit, and room for what comes back."""
    with tempfile.TemporaryDirectory() as folder:
        for model in (TFLITE, ONNX):
            shutil.copy(model, folder)
        os.chown(folder, USER, USER)
        yield Path(folder)


@pytest.fixture(scope="module")
def running(machine: Machine, credentials: Path) -> Iterator[dict[str, Service]]:
    """Start the services in the file's order, each when those that it depends on are well; all are built before."""
    for name in SERVICES:
        build(stem_of(name))
    with ExitStack() as held:
        found: dict[str, Service] = {}
        for name in SERVICES:
            for needed in SERVICES[name].get("depends_on", ()):
                await_well(machine, found[needed])
            found[name] = held.enter_context(started(machine, name, credentials))
        yield found


@contextmanager
def started(machine: Machine, name: str, credentials: Path) -> Iterator[Service]:
    service = SERVICES[name]
    variables = told(service, credentials)
    with build(stem_of(name)).container(*(f"--add-host={each}" for each in NAMES)) as container, ExitStack() as held:
        log = credentials / f"{name}.log"
        argv = inside(
            machine,
            container.command(*service["command"], variables=variables, volumes=shared(service, credentials)),
        )
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


def stem_of(name: str) -> str:
    """Say which Dockerfile a service's image is built from."""
    found = re.fullmatch(r"docker/([a-z0-9-]+)\.Dockerfile", SERVICES[name]["build"]["dockerfile"])
    assert found
    return found[1]


def told(service: Mapping[str, Any], credentials: Path) -> dict[str, str]:
    """Read what compose would put into the environment."""
    lines = [line for path in service["env_file"] for line in (credentials / Path(path).name).read_text().splitlines()]
    given = {
        name: re.sub(r"\$\{FARM_ADDRESS[^}]*\}", "127.0.0.1", value)
        for name, value in service.get("environment", {}).items()
    }
    return dict(line.split("=", 1) for line in lines) | given


def shared(service: Mapping[str, Any], credentials: Path) -> tuple[str, ...]:
    """Give a service what it has of the machine, which is the folder of locks; here it is one of this farm's own."""
    asked = [volume for volume in service.get("volumes", ()) if volume.startswith("/")]
    assert set(asked) <= {"/run/lock:/run/lock"}
    locks = credentials / "lock"
    locks.mkdir(exist_ok=True)
    locks.chmod(0o1777)
    return tuple(f"{locks}:/run/lock" for _ in asked)


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


@dataclass(frozen=True, slots=True)
class User:
    """Someone with a token and a folder of models, who runs commands in the control plane's image."""

    machine: Machine
    api: Container
    variables: Mapping[str, str]
    folder: Path

    def farm(self, *argv: str) -> Any:
        """Run `farm … --json` and give what it answers."""
        volumes = (f"{self.folder}:{HERE}",)
        command = self.api.command("farm", *argv, "--json", variables=self.variables, volumes=volumes)
        ran = subprocess.run(inside(self.machine, command), capture_output=True, text=True, timeout=600)
        assert ran.stdout, ran.stderr[-3000:]
        return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def user(machine: Machine, running: dict[str, Service], credentials: Path, models: Path) -> User:
    """Give a user of the farm, as soon as each of its hosts is well."""
    for host in HOSTS:
        await_well(machine, running[host])
    token = dict(line.split("=", 1) for line in (credentials / "user.env").read_text().splitlines())
    return User(machine, running["api"].container, {"FARM_URL": "http://api:8765", **token}, models)


def test_every_service_is_well(machine: Machine, running: dict[str, Service]) -> None:
    for service in running.values():
        await_well(machine, service)

    answers = {name: service.ask(machine, *check_of(service.name)).returncode for name, service in running.items()}
    assert answers == dict.fromkeys(SERVICES, 0)


def test_every_service_runs_its_own_command(running: dict[str, Service]) -> None:
    """Given all services well; then each still is the process that compose.yaml names."""
    for name, service in running.items():
        assert service.process.poll() is None, service.log.read_text(errors="replace")[-3000:]
        assert service.process.args[-len(SERVICES[name]["command"]) :] == SERVICES[name]["command"]


def test_no_part_is_told_what_is_not_its_own(running: dict[str, Service]) -> None:
    for host in HOSTS:
        assert not {"FARM_DATABASE_URL", "FARM_S3_SECRET_KEY"} & set(running[host].variables)
    assert "FARM_S3_SECRET_KEY" not in running["flower"].variables


def test_builder_and_worker_are_hosts_of_the_farm(user: User) -> None:
    assert sorted(host["name"] for host in user.farm("hosts") if host["live"]) == list(HOSTS)


def test_a_tflite_file_is_measured_as_it_is(user: User) -> None:
    """Given a quantized TFLite file, which needs no toolchain; then it is inspected, compared and measured."""
    report = user.farm("submit", f"{HERE}/{TFLITE.name}", "--target", target(user), "--runtime", "litert", "--wait")

    assert report["state"] == "succeeded", report
    assert report["results"][0]["numerics"]["sqnr_db"] >= SAME_DB


def test_an_onnx_model_goes_in_and_files_for_two_runtimes_come_out(user: User) -> None:
    """Given an ONNX model; then the builder converts it, and what a user downloads is what was measured."""
    runtimes = ("--runtime", "onnxruntime", "--runtime", "litert")
    report = user.farm("submit", f"{HERE}/{ONNX.name}", "--target", target(user), *runtimes, "--wait")

    assert report["state"] == "succeeded", report
    results = {result["target_runtime"]: result for result in report["results"]}
    assert set(results) == {"onnxruntime", "litert"}
    for result in results.values():
        assert result["numerics"]["sqnr_db"] >= SAME_DB
        assert len(result["execution_summary"]["all_inference_times"]) >= 3

    user.farm("download", report["job"], "--to", f"{HERE}/fetched")
    fetched = [path for path in (user.folder / "fetched").rglob("*") if path.is_file()]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in fetched}
    assert {file["sha256"] for result in results.values() for file in result["artifact"]["files"]} <= digests
    (tflite,) = (path for path in fetched if path.suffix == ".tflite")
    assert tflite.read_bytes()[4:8] == b"TFL3"


def target(user: User) -> str:
    """Name what the machine is; both hosts are on it."""
    (profile,) = {host["profile"] for host in user.farm("hosts")}
    return str(profile)
