"""Which measurements are taken once more: those that a pause may mend, and as often as the setting says."""

from __future__ import annotations

from typing import Any

import pytest

from farm.domain.errors import Actor
from farm.domain.remeasuring import Retaking, failure_of, with_earlier
from farm.domain.stage import Kind

ONCE = Retaking(most=1)


def facts(*reasons: str, cool_down_s: float | None = 30.0) -> dict[str, Any]:
    return {"conditions": {"valid": not reasons, "reasons": list(reasons), "host": "pi-a", "cool_down_s": cool_down_s}}


@pytest.mark.parametrize(
    "reason",
    ["throttled", "hot", "loaded", "steal", "clock-low", "memory-pressure", "unstable", "reference-drift"],
)
def test_what_a_pause_may_mend_is_measured_again_after_the_profiles_pause(reason: str) -> None:
    assert ONCE.pause_after(Kind.MEASURE, facts(reason), 0) == 30.0


@pytest.mark.parametrize(
    ("told", "earlier"),
    [
        (facts(), 0),
        (facts("hot"), 1),
        (facts("emulated", "loaded"), 0),
        (facts("governor"), 0),
        (facts("unknown-state"), 0),
        (facts("unstable", cool_down_s=None), 0),
        ({}, 0),
    ],
    ids=["valid", "second time", "emulated", "governor", "unknown", "short", "no conditions"],
)
def test_what_stands_is_not_measured_again(told: dict[str, Any], earlier: int) -> None:
    assert ONCE.pause_after(Kind.MEASURE, told, earlier) is None


def test_other_steps_and_a_setting_of_none_are_left_alone() -> None:
    assert ONCE.pause_after(Kind.COMPARE, facts("hot"), 0) is None
    assert Retaking().pause_after(Kind.MEASURE, facts("hot"), 0) is None


def test_a_setting_replaces_the_profiles_pause_and_none_is_endless() -> None:
    assert Retaking(1, 2.5).pause_after(Kind.MEASURE, facts("hot"), 0) == 2.5
    assert ONCE.pause_after(Kind.MEASURE, facts("hot", cool_down_s=1e9), 0) == 600.0


def test_the_measurement_that_stands_tells_of_the_one_that_did_not() -> None:
    failure = failure_of(facts("hot", "clock-low"), 30.0)
    told = with_earlier(facts("hot"), [{"evidence": dict(failure.evidence)}])

    assert "hot, clock-low" in failure.message
    assert failure.who_must_act is Actor.OPERATOR
    assert told["conditions"]["earlier"] == [{"reasons": ["hot", "clock-low"], "cool_down_s": 30.0, "host": "pi-a"}]
    assert with_earlier(facts("hot"), []) == facts("hot")
