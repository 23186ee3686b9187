"""docker/compose.yaml, read and held against the images, the command line and the credentials that there are."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.main import get_command

from farm.cli.main import app
from farm.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"
TEXT = (DOCKER / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
each = pytest.mark.parametrize("name", SERVICES)


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


def test_it_is_the_whole_farm() -> None:
    assert set(SERVICES) == {"postgres", "redis", "s3", "api", "control", "flower", "builder", "worker"}


@each
def test_every_image_is_built_here(name: str) -> None:
    service = SERVICES[name]
    image = re.fullmatch(r"farm-([a-z0-9-]+):\$\{FARM_TAG:-latest\}", service["image"])

    assert image
    assert service["build"] == {"context": "..", "dockerfile": f"docker/{image[1]}.Dockerfile"}
    assert (DOCKER / f"{image[1]}.Dockerfile").is_file()


@each
def test_every_command_exists(name: str) -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    match SERVICES[name]["command"]:
        case ["farm", command, *_]:
            assert command in commands
        case ["python", "/opt/farm/docker/services.py", server]:
            assert server == name in module("services").SERVERS
        case ["python", "-m", "celery", "-A", "farm.queue", "flower", *_]:
            assert importlib.util.find_spec("flower")
        case other:
            pytest.fail(f"{name} runs {other}")


@each
def test_every_check_of_health_exists(name: str) -> None:
    check = SERVICES[name].get("healthcheck")
    if check is None:
        (dockerfile,) = re.findall(r"docker/[a-z0-9-]+\.Dockerfile", SERVICES[name]["build"]["dockerfile"])
        assert "HEALTHCHECK" in (DOCKER.parent / dockerfile).read_text()
        return
    match check["test"]:
        case ["CMD", "python", "/opt/farm/docker/health.py", part]:
            assert part in module("health").CHECKS
        case ["CMD", "python", "/opt/farm/docker/services.py", "health", server]:
            assert server == name
        case other:
            pytest.fail(f"{name} asks {other}")


def test_no_secret_is_in_it(tmp_path: Path) -> None:
    """Given made credentials; then none of their variables is set in the file, and each has one only where it must."""
    credentials = module("credentials")
    assert credentials.main(tmp_path) == 0
    made = {
        path.stem: dict(line.split("=", 1) for line in path.read_text().splitlines()) for path in tmp_path.glob("*.env")
    }

    for service in SERVICES.values():
        assert {Path(path).stem for path in service.get("env_file", ())} <= set(made)
        assert not set(service.get("environment", {})) & {name for told in made.values() for name in told}
    assert not re.search(r"(?i)(password|secret|token|key)\s*:", TEXT)
    assert all((path.stat().st_mode & 0o077) == 0 for path in tmp_path.iterdir())


def test_a_worker_knows_neither_ledger_nor_bucket(tmp_path: Path) -> None:
    variables = module("credentials").variables(dict.fromkeys(module("credentials").NAMES, "x"))

    assert set(variables["worker"]) == {"FARM_TOKEN", "FARM_REDIS_URL"}
    assert variables["worker"]["FARM_REDIS_URL"].startswith("redis://worker:")
    for name in ("builder", "worker"):
        assert SERVICES[name]["env_file"] == ["credentials/worker.env"]


def test_an_enrolled_board_is_told_where_the_broker_is(tmp_path: Path) -> None:
    """Given the machine's address; then the API knows the broker's role there, and a second run keeps or changes it."""
    credentials = module("credentials")

    def told() -> str | None:
        lines = (tmp_path / "api.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines).get("FARM_WORKER_REDIS_URL")

    credentials.main(tmp_path)
    assert told() is None
    credentials.main(tmp_path, "192.0.2.10")
    first = told()
    credentials.main(tmp_path)
    assert told() == first
    assert re.fullmatch(r"redis://worker:[0-9a-f]{40}@192\.0\.2\.10:6379/0", first or "")
    assert "6379:6379" in SERVICES["redis"]["ports"]
    credentials.main(tmp_path, "farm.lan")
    assert told() == (first or "").replace("192.0.2.10", "farm.lan")


def test_credentials_stay_what_they_were(tmp_path: Path) -> None:
    credentials = module("credentials")
    credentials.main(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    credentials.main(tmp_path)

    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


@each
def test_every_setting_is_one(name: str) -> None:
    known = {f"FARM_{field.upper()}" for field in Settings.model_fields}
    told = {key for key in SERVICES[name].get("environment", {}) if key.startswith("FARM_")}

    assert told <= known


@pytest.mark.parametrize(("status", "is_well"), [(403, True), (503, False)])
def test_a_store_that_asks_for_a_password_is_well_and_one_that_cannot_serve_is_not(
    monkeypatch: pytest.MonkeyPatch, status: int, is_well: bool
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    services = module("services")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        monkeypatch.setitem(services.PORTS, "s3", server.server_port)
        threading.Thread(target=server.handle_request, daemon=True).start()
        if is_well:
            services.health("s3")
        else:
            with pytest.raises(services.Unwell, match="s3 answers 503"):
                services.health("s3")
