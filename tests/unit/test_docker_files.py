"""The Dockerfiles: no finding of hadolint, one base, an ordinary user, and a health check that exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workers import environments

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_images() -> None:
    assert {path.stem for path in FILES} == {
        *("control", "services", "builder", "worker-x86", "worker-arm64", "worker-armhf", "worker-edgetpu")
    }


@each
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    told = subprocess.run([hadolint, "--config", ROOT / ".hadolint.yaml", path], capture_output=True, text=True)

    assert (told.returncode, told.stdout) == (0, "")


@each
def test_it_is_small_by_its_base_and_runs_as_an_ordinary_user(path: Path) -> None:
    text = path.read_text()

    assert "ARG BASE=debian:bookworm-slim" in text
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)


@each
def test_what_it_installs_is_locked(path: Path) -> None:
    text = path.read_text()
    if path.stem == "services":
        assert "pip install --no-cache-dir --no-deps -r services.lock" in text
        return
    (own,) = re.findall(r"workers\.environments own --lock (\w+)", text)
    wanted = re.findall(r"workers\.environments install ([\w -]+)", text)

    assert environments.lock_path(own).is_file()
    assert {name for line in wanted for name in line.split()} <= set(environments.names())


@pytest.fixture(scope="module")
def installer() -> set[str]:
    """Name the farm's own files that installing environments loads."""
    code = (
        "import sys, workers.environments.__main__\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('farm', 'workers')), sep='\\n')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {str(Path(line).relative_to(ROOT)) for line in told.stdout.splitlines()}


@each
def test_a_change_of_code_installs_nothing_again(path: Path, installer: set[str]) -> None:
    """Given the layers that install packages; then they see just what installing loads, and the rest comes after."""
    if path.stem == "services":
        return
    before, _, after = path.read_text().rpartition("RUN --mount")
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", before, re.M) for name in line.split()}

    loaded = {name for name in installer if not name.startswith("workers/environments/")}
    assert copied == loaded | {"pyproject.toml", "README.md", "hardware_profiles", "workers/environments"}
    assert re.search(r"^COPY workers /opt/farm/workers\nCOPY farm /opt/farm/farm$", after, re.M)


def test_a_change_of_the_readme_installs_no_toolchain_again() -> None:
    """Given the image that has every toolchain; then what the farm itself is made of comes after them."""
    toolchains, _, _ = (ROOT / "docker" / "builder.Dockerfile").read_text().partition("RUN --mount")

    assert not re.search(r"^COPY .*(README\.md|pyproject\.toml|hardware_profiles)", toolchains, re.M)


@each
def test_its_health_check_is_one_of_those_there_are(path: Path) -> None:
    (asked,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", path.read_text(), re.M)
    python, program, *arguments = json.loads(asked)

    script = ROOT / "docker" / Path(program).name
    told = subprocess.run([sys.executable, script, "nothing"], capture_output=True, text=True)
    assert python == "python"
    assert program == f"/opt/farm/docker/{script.name}"
    assert told.returncode == 2
    assert all(word in told.stdout + told.stderr for word in arguments)
