"""Environments are installed whole or not at all, from a lock, by one installer at a time: with the real uv and pip."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.domain.errors import ConfigurationError, EnvironmentMissing
from workers import environments
from workers.environments import MARKER, installation, installed_digest, locking, tools, verification
from workers.environments.__main__ import main
from workers.environments.installation import install, install_all, need_disk
from workers.environments.locking import tidy
from workers.environments.verification import verify


def wheel(folder: Path, name: str, version: str, *, source: str = "answer = 42\n", python: str = ">=3.8") -> None:
    """Write a wheel with one module."""
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        made.writestr(f"{name}.py", source)
        made.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(
            f"{information}/METADATA",
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: {python}\n",
        )
        made.writestr(f"{information}/RECORD", f"{name}.py,,\n{information}/METADATA,,\n{information}/WHEEL,,\n")


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Locks of two small packages, wheels for them, and no index."""
    folder, wheels = tmp_path / "locks", tmp_path / "wheels"
    folder.mkdir()
    wheels.mkdir()
    wheel(wheels, "toy_lamp", "1.0")
    wheel(wheels, "toy_future", "2.0", python=">=3.99")
    (folder / "lamp.in").write_text("# disk: 1 MB\ntoy-lamp\n")
    (folder / "lamp.lock").write_text("toy-lamp==1.0\n")
    (folder / "future.in").write_text("# disk: 1 MB\ntoy-future\n")
    (folder / "future.lock").write_text("# install: pip --ignore-requires-python --no-deps\ntoy-future==2.0\n")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "FOLDER", folder)
    yield folder
    environments.lock_digest.cache_clear()
    environments.pins.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> None:
    environments.lock_digest.cache_clear()
    environments.pins.cache_clear()


def test_an_environment_is_what_its_lock_says_and_is_then_left_alone(locks: Path, tmp_path: Path) -> None:
    first = install(tmp_path / "envs", "lamp")
    marker = tmp_path / "envs" / "lamp" / MARKER
    written = marker.stat().st_mtime_ns

    again = install(tmp_path / "envs", "lamp")

    assert (first.packages, first.seconds > 0, again.seconds) == (1, True, 0)
    assert marker.stat().st_mtime_ns == written
    assert installed_digest(tmp_path / "envs", "lamp") == environments.lock_digest("lamp")
    (one,) = verify(tmp_path / "envs", "lamp")
    assert (one.package, one.version, one.problem) == ("toy-lamp", "1.0", None)


def test_a_lock_may_ask_for_pip_and_its_flags(locks: Path, tmp_path: Path) -> None:
    install(tmp_path / "envs", "future")

    assert [one.version for one in verify(tmp_path / "envs", "future")] == ["2.0"]


def test_a_changed_lock_is_installed_anew_and_nothing_old_is_left(locks: Path, tmp_path: Path) -> None:
    install(tmp_path / "envs", "lamp")
    wheel(tmp_path / "wheels", "toy_torch", "3.0")
    (locks / "lamp.lock").write_text("toy-torch==3.0\n")
    environments.lock_digest.cache_clear()

    install(tmp_path / "envs", "lamp")

    packages = tmp_path / "envs" / "lamp" / "lib"
    assert list(packages.rglob("toy_torch.py"))
    assert not list(packages.rglob("toy_lamp.py"))


def test_an_installation_that_failed_is_not_there(locks: Path, tmp_path: Path) -> None:
    install(tmp_path / "envs", "lamp")
    (locks / "lamp.lock").write_text("toy-lamp==9.9\n")
    environments.lock_digest.cache_clear()

    with pytest.raises(ConfigurationError, match=r"Could not install lamp: uv exited.*\n(.*\n)*.*toy-lamp") as caught:
        install(tmp_path / "envs", "lamp")

    assert "toy-lamp" in caught.value.evidence["log_tail"]
    assert "uv pip install" in (caught.value.remedy or "")
    assert installed_digest(tmp_path / "envs", "lamp") is None
    with pytest.raises(EnvironmentMissing, match="not installed"):
        verify(tmp_path / "envs", "lamp")


def test_one_that_fails_does_not_keep_the_others_back(locks: Path, tmp_path: Path) -> None:
    (locks / "lamp.lock").write_text("toy-lamp==9.9\n")

    with pytest.raises(ConfigurationError):
        install_all(tmp_path / "envs", ["lamp", "future"])

    assert installed_digest(tmp_path / "envs", "future") == environments.lock_digest("future")


def test_a_second_installer_waits_for_the_first_and_finds_its_work(locks: Path, tmp_path: Path) -> None:
    into = tmp_path / "envs"
    into.mkdir()
    descriptor = os.open(into / ".lamp.install.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    code = (
        "import sys; from pathlib import Path; from workers import environments as e;"
        "e.FOLDER = Path(sys.argv[1]); from workers.environments.installation import install;"
        "print('begins', flush=True); print(install(Path(sys.argv[2]), 'lamp').seconds)"
    )
    second = subprocess.Popen(
        [sys.executable, "-c", code, str(locks), str(into)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=installation.PROJECT,
    )
    assert second.stdout is not None
    assert second.stdout.readline() == "begins\n"
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.3)
    (into / "lamp").mkdir()
    installation.mark(into / "lamp" / MARKER, environments.lock_digest("lamp"))
    os.close(descriptor)

    assert second.communicate(timeout=30)[0] == "0.0\n"


def test_too_little_disk_is_said_before_anything_begins(locks: Path, tmp_path: Path) -> None:
    (locks / "lamp.in").write_text("# disk: 999999999 MB\ntoy-lamp\n")

    with pytest.raises(ConfigurationError, match="needs 999,999,999 MB") as caught:
        install(tmp_path / "envs", "lamp")

    assert "--into" in (caught.value.remedy or "")
    assert not (tmp_path / "envs" / "lamp").exists()
    need_disk(tmp_path / "not" / "there", 1, what="a byte")


def test_a_python_that_is_not_here_is_named(locks: Path, tmp_path: Path) -> None:
    (locks / "lamp.lock").write_text("# python: 3.99\ntoy-lamp==1.0\n")

    with pytest.raises(EnvironmentMissing, match=r"needs Python 3\.99") as caught:
        install(tmp_path / "envs", "lamp")

    assert "other routes" in (caught.value.remedy or "")


def test_an_unknown_installer_is_refused(locks: Path, tmp_path: Path) -> None:
    (locks / "lamp.lock").write_text("# install: conda\ntoy-lamp==1.0\n")

    with pytest.raises(ConfigurationError, match="installer 'conda'; known are uv and pip"):
        install(tmp_path / "envs", "lamp")


def test_a_folder_that_may_not_be_written_is_named(locks: Path) -> None:
    with pytest.raises(ConfigurationError, match="Cannot write in /proc/envs"):
        install(Path("/proc/envs"), "lamp")


def test_a_package_that_does_not_import_is_told(
    locks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(tmp_path / "wheels", "toy_lamp", "1.1", source="raise ImportError('libcublas.so is missing')\n")
    (locks / "lamp.lock").write_text("toy-lamp==1.1\n")
    install(tmp_path / "envs", "lamp")

    code = main(["--into", str(tmp_path / "envs"), "verify", "--json", "lamp"])

    (told,) = json.loads(capsys.readouterr().out)
    assert code == 1
    assert told["problem"] == "ImportError: libcublas.so is missing"


def test_the_list_says_what_is_ready_missing_or_old(
    locks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "envs", "lamp")

    def states() -> dict[str, str]:
        assert main(["--into", str(tmp_path / "envs"), "--json", "list"]) == 0
        return {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}

    assert states() == {"lamp": "ready", "future": "missing"}
    (locks / "lamp.lock").write_text("toy-lamp==1.2\n")
    environments.lock_digest.cache_clear()
    assert states()["lamp"] == "of another lock"


def test_a_failure_is_two_lines_and_exit_code_3(
    locks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (locks / "lamp.lock").write_text("# python: 3.99\ntoy-lamp==1.0\n")

    assert main(["--into", str(tmp_path / "envs"), "install", "lamp"]) == 3

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-2:] == [
        "Environment lamp needs Python 3.99, and there is no python3.99 on PATH.",
        "Install Python 3.99 with its venv module, or leave lamp out: other routes then take over.",
    ]


def test_an_unknown_name_is_a_usage_error(locks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["install", "lmap"])

    assert ended.value.code == 2
    assert "'lmap' is none of future, lamp" in capsys.readouterr().err


def test_what_pip_was_told_reaches_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_")) or name == "SSL_CERT_FILE"]:
        monkeypatch.delenv(name)
    settings = tmp_path / "pip.conf"
    settings.write_text(
        f"[global]\nfind-links =\n    {tmp_path}\n    /elsewhere\nindex-url = https://mirror.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("UV_FIND_LINKS", "")

    told = tools.surroundings()

    assert told["UV_FIND_LINKS"] == f"{tmp_path},/elsewhere"
    assert told["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert "UV_TORCH_BACKEND" not in told


def test_without_torch_wheels_of_the_users_own_uv_takes_the_cpu_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

    assert tools.surroundings()["UV_TORCH_BACKEND"] == "cpu"
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert "UV_TORCH_BACKEND" not in tools.surroundings()


def test_a_compiled_lock_keeps_pins_alone() -> None:
    compiled = (
        "# a comment\n--index-url https://mirror.example\nnumpy==2.4.6\ntorch==2.13.0+cpu\ntorchvision==0.28.0+cpu\n"
    )

    assert tidy(compiled, ("torchvision",)) == ["numpy==2.4.6", "torch==2.13.0"]


def test_a_lock_is_made_from_what_is_wanted_and_keeps_its_headers(
    locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "FOLDER", locks)
    (locks / "lamp.lock").write_text("# python: 3.11\n")

    assert locking.compile_lock("lamp")
    assert (locks / "lamp.lock").read_text() == "# python: 3.11\ntoy-lamp==1.0\n"
    assert not locking.compile_lock("lamp")


def test_the_probe_imports_the_module_named_like_its_package() -> None:
    found = subprocess.run(
        [sys.executable, "-c", verification.PROBE, "pyyaml"], capture_output=True, text=True, check=True
    )

    assert json.loads(found.stdout)["module"] == "yaml"
