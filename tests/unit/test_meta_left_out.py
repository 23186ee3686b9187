"""A CI run that left a test out fails and names it; elsewhere it is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

def test_runs():
    pass

@pytest.mark.root
def test_of_root():
    pass

@pytest.mark.skipif(MARK, reason="REASON")
def test_maybe():
    pass
"""


def run(folder: Path, *, ci: bool, skips: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run three tests under this project's conftest; one is skipped for a reason when there is one."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    text = TESTS.replace("MARK", str(skips is not None)).replace("REASON", skips or "")
    (folder / "test_some.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    root: needs root\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    surroundings = {**os.environ, "CI": "true" if ci else "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("ci", [True, False])
def test_a_run_of_root_that_skips_nothing_passes(tmp_path: Path, ci: bool) -> None:
    done = run(tmp_path, ci=ci)

    is_whole = os.geteuid() == 0
    assert done.returncode == (0 if is_whole or not ci else 1), done.stdout
    assert ("test_of_root" in done.stdout) == (not is_whole)
    assert ("3 passed" if is_whole else "2 passed, 1 deselected") in done.stdout.splitlines()[-1]


def test_a_skip_without_an_accepted_reason_fails_in_ci_and_the_closing_line_stays_last(tmp_path: Path) -> None:
    done = run(tmp_path, ci=True, skips="no such tool here")

    assert done.returncode == 1
    assert "test_some.py" in done.stdout
    assert "Skipped: no such tool here" in done.stdout
    assert "1 skipped" in done.stdout.splitlines()[-1]


def test_elsewhere_a_skip_is_only_listed(tmp_path: Path) -> None:
    assert run(tmp_path, ci=False, skips="no such tool here").returncode == 0


@pytest.mark.root
def test_an_accepted_skip_passes_in_ci(tmp_path: Path) -> None:
    assert run(tmp_path, ci=True, skips="written for real x86-64 machines").returncode == 0
