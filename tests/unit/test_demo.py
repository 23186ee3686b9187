"""The demo: what its user is told when it was not let finish."""

from __future__ import annotations

from demo.__main__ import stopped_by_hand
from farm.cli.errors import CANCELLED, DETACHED, FAILED, OK
from farm.report.model import Report
from tests import report_samples as samples


def test_a_cancelled_or_detached_demo_is_no_failure_and_says_how_to_go_on() -> None:
    cancelled = Report.model_validate(samples.report(state="cancelled", results=[]))
    running = Report.model_validate(samples.report(state="running"))

    assert "Run `make demo` again" in (stopped_by_hand(cancelled, CANCELLED) or "")
    assert "goes on" in (stopped_by_hand(running, DETACHED) or "")


def test_a_demo_that_ended_by_itself_is_judged_by_its_results() -> None:
    ended = Report.model_validate(samples.report())

    assert stopped_by_hand(ended, OK) is None
    assert stopped_by_hand(ended, FAILED) is None
