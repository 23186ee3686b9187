"""What every test run does: name what is left out, and in CI accept no skip without a known reason."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

IS_CI = os.environ.get("CI") == "true"
IS_ROOT = os.geteuid() == 0
ACCEPTED_SKIPS = (
    ("written for real x86-64 machines", "the machine that runs the tests may be of another architecture"),
)
"""Words of a skip's reason, and why it may be left out in CI."""

left_out_key = pytest.StashKey[list[str]]()
unaccepted_key = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Forget the width that pytest-xdist tells its workers: the commands under test would print tables that narrow."""
    os.environ.pop("COLUMNS", None)
    config.stash[left_out_key] = []
    config.stash[unaccepted_key] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the root tier out for an ordinary user."""
    if IS_ROOT:
        return
    for_root = [item for item in items if item.get_closest_marker("root")]
    if for_root:
        config.hook.pytest_deselected(items=for_root)
        items[:] = [item for item in items if item not in for_root]
        config.stash[left_out_key] += [item.nodeid for item in for_root]


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Fail a CI run that left a test out."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    unaccepted = [f"{report.nodeid}: {_reason(report)}" for report in skipped if not _is_accepted(_reason(report))]
    session.config.stash[unaccepted_key] += unaccepted
    if IS_CI and (unaccepted or session.config.stash[left_out_key]) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    _list(terminalreporter, "left out: the root tier (run as root to include it)", config.stash[left_out_key])
    if IS_CI:
        _list(terminalreporter, "skipped without an accepted reason: fails in CI", config.stash[unaccepted_key])


def _list(reporter: pytest.TerminalReporter, title: str, lines: list[str]) -> None:
    if lines:
        reporter.section(f"{len(lines)} {title}")
        for line in lines:
            reporter.line(line)


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _is_accepted(reason: str) -> bool:
    return any(words in reason for words, _ in ACCEPTED_SKIPS)
