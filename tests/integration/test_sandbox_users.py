"""Root runs the sandbox's tests once more as a user without rights."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import NOBODY, REPOSITORY, code_root, identity, public_environment, public_folder

SUITES = ("isolation", "abuse", "lifetime")
PYTEST = ("py", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pytest_timeout", "pygments")


def copy_of_pytest() -> Path:
    """Copy the test runner to where every user may read it: our environment may be closed to others."""
    packages = public_folder() / "packages"
    packages.mkdir(exist_ok=True)
    for name in PYTEST:
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} is not installed"
        assert spec.origin is not None, f"{name} has no file"
        source = Path(spec.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, packages / name, dirs_exist_ok=True)
        else:
            shutil.copy(source, packages)
    subprocess.run(["chmod", "-R", "a+rX", str(packages)], check=True)
    return packages


@pytest.fixture
def suites() -> Path:
    """Copy the tests beside the code they test."""
    folder = code_root() / "tests" / "integration"
    folder.mkdir(exist_ok=True)
    for suite in SUITES:
        shutil.copy(REPOSITORY / "tests" / "integration" / f"test_sandbox_{suite}.py", folder)
    (code_root() / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    root: needs root\n    toolchain: needs toolchains\n"
    )
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    return folder


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_everything_holds_as_an_ordinary_user(suites: Path) -> None:
    environment = public_environment()
    if environment is None:
        pytest.skip("no interpreter that another user may run")
    home = Path(tempfile.mkdtemp(dir=public_folder()))
    os.chown(home, NOBODY, NOBODY)
    variables = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{code_root()}:{copy_of_pytest()}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(home),
    }
    command = [environment / "bin" / "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", suites]

    done = subprocess.run(command, cwd=code_root(), env=variables, capture_output=True, text=True, **identity())

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    print(done.stdout[-1500:])
    assert " passed" in done.stdout
