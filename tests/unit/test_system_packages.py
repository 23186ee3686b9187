"""Packages without a wheel for 32-bit ARM: left out of what is installed, and held to the lock's version."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from farm.domain.errors import EnvironmentMissing
from workers import environments
from workers.environments import installation, tools
from workers.environments.root import ARCHITECTURES, _wheels_of

NAME = "tflite-runtime"
WANTED = environments.wanted(NAME)


@pytest.fixture
def on_32_bit_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "armv7l")


@pytest.mark.usefixtures("on_32_bit_arm")
def test_the_systems_packages_are_not_installed() -> None:
    command = installation.command(Path("/envs") / NAME, NAME, WANTED)

    assert "tflite-runtime==2.14.0" in command
    assert not [word for word in command if word.startswith("numpy")]


def test_elsewhere_the_lock_is_installed_as_it_is() -> None:
    command = installation.command(Path("/envs") / NAME, NAME, WANTED)

    assert command[-2:] == ["-r", str(environments.lock_path(NAME))]


@pytest.mark.usefixtures("on_32_bit_arm")
@pytest.mark.parametrize(("found", "fits"), [("1.24.2", True), ("1.26.4", False)])
def test_the_systems_version_is_the_locks(monkeypatch: pytest.MonkeyPatch, found: str, fits: bool) -> None:
    monkeypatch.setattr(tools, "call", lambda *_, **__: f"{found}\n")
    if fits:
        installation._check_system(Path("/envs"), NAME, WANTED)
        return
    with pytest.raises(EnvironmentMissing, match=r"needs numpy 1\.24\.2; this system's is 1\.26\.4") as told:
        installation._check_system(Path("/envs"), NAME, WANTED)
    assert "apt install python3-numpy" in (told.value.remedy or "")


@pytest.mark.parametrize(("name", "left_out"), [(NAME, {"numpy"}), ("worker", {"pyyaml", "cffi"})])
def test_a_32_bit_root_gets_the_wheels_that_there_are(name: str, left_out: set[str]) -> None:
    told = _wheels_of(name, ARCHITECTURES["armv7l"])

    assert {word.partition("==")[0] for word in told if "==" in word} == set(environments.pins(name)) - left_out
    assert told[told.index("--platform") + 1].endswith("armv7l")


def test_a_64_bit_root_gets_the_lock() -> None:
    told = _wheels_of("litert", ARCHITECTURES["aarch64"])

    assert told[-2:] == ["-r", str(environments.lock_path("litert"))]
    assert told[told.index("--python-platform") + 1] == "aarch64-manylinux_2_28"
