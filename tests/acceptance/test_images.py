"""The images of docker/, really built and their commands really run (make test-slow); 15 minutes the first time."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.container_images import MACHINES, Image, build, command, health_check

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1800)]
MB = 1_000_000
ADDED_MB = {
    ("control", "amd64"): 350,
    ("services", "amd64"): 320,
    ("builder", "amd64"): 5500,
    ("worker-x86", "amd64"): 600,
    ("worker-edgetpu", "amd64"): 420,
    ("worker-arm64", "arm64"): 320,
    ("worker-armhf", "armhf"): 320,
}
"""What each image may add to its base at most."""
RUNTIMES = {
    "builder": ("builder", "onnx2tf", "executorch", "onnxruntime", "litert", "openvino"),
    "worker-x86": ("onnxruntime", "litert", "openvino"),
    "worker-edgetpu": ("onnxruntime", "litert"),
    "worker-arm64": ("onnxruntime", "litert"),
    "worker-armhf": ("tflite-runtime",),
}
WITHOUT = {"control", "services"}
"""Images of no worker."""


@pytest.fixture(scope="module", params=ADDED_MB, ids=lambda key: key[0])
def built(request: pytest.FixtureRequest) -> tuple[str, Image]:
    stem, architecture = request.param
    return stem, build(stem, architecture)


def test_it_adds_little_to_its_base(built: tuple[str, Image]) -> None:
    stem, image = built

    assert image.added_bytes < ADDED_MB[stem, image.architecture] * MB


def test_its_program_runs_as_an_ordinary_user(built: tuple[str, Image]) -> None:
    stem, image = built

    with image.container() as container:
        assert container.run("id", "-u") == "10001"
        assert container.run("uname", "-m") == MACHINES[image.architecture]
        if stem == "services":
            assert "usage" in container.run("sh", "-c", "python /opt/farm/docker/services.py 2>&1 || true")
        else:
            assert container.run("farm", "--version").startswith("farm ")


def test_its_own_command_starts_and_says_what_it_lacks(built: tuple[str, Image]) -> None:
    """Given no farm and no ledger; then what the image runs by itself ends with the reason, in words, and who must act.

    Services are run for good by test_compose.
    """
    stem, image = built
    own = command(image.name)
    if stem == "services":
        assert own[-1] == "postgres"
        return
    with image.container() as container:
        line = f"FARM_URL=http://127.0.0.1:9 FARM_TOKEN=x timeout 150 {shlex.join(own)} 2>&1; echo exit $?"
        told = container.run("sh", "-c", line, timeout_s=200)

    assert re.search(r"Error \[[a-z-]+\] ", told), told
    assert "Who must act" in told
    assert told.endswith(("exit 2", "exit 3"))
    assert "Traceback" not in told


def test_its_health_check_is_there_and_says_what_is_wrong(built: tuple[str, Image]) -> None:
    """Given nothing that runs; then the check that the image names fails with a reason, not with a traceback."""
    _, image = built
    check = " ".join(health_check(image.name))

    with image.container() as container:
        told = container.run("sh", "-c", f"{check} 2>&1; echo exit $?")

    assert told.endswith("exit 1")
    assert "Traceback" not in told


def test_its_environments_are_those_of_the_locks(built: tuple[str, Image]) -> None:
    """Given an image of a worker; then what it would attest is what the farm's plans ask for."""
    stem, image = built
    if stem in WITHOUT:
        assert stem not in RUNTIMES
        return
    with image.container() as container:
        listed = container.run("sh", "-c", "cd /opt/farm && python -m workers.environments list")

    ready = {line.split()[0] for line in listed.splitlines() if " ready " in line}
    assert ready == set(RUNTIMES[stem])
